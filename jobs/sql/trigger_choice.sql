-- name: trigger_choice
-- description: The patterns that the selection rows recommend: for each gold class those that cost it most correct
--   answers, and for each class they argue for those that push most other answers there, beyond their random controls. With
--   two classes what one loses the other gains, so there each effect is a `drop`, told once.
-- grain: run_id, ranking, label, place
-- materialized: table
-- depends: trigger_selection, trigger_patterns
-- audits: choice_is_bounded
-- param top: integer from 1 = 3; Patterns chosen for each ranking and class.
-- column pattern_id: Pattern (trigger_patterns.pattern_id).
-- column ranking: `drop` (correct answers lost) or `push` (answers of other classes turned to the pattern's own; of runs
--   with more than two classes).
-- column label: Class: the gold class attacked, or the class pushed to.
-- column place: Place in the ranking, from 0.
-- column over_control: Share of rows changed beyond the mean of the random controls, on the selection rows.
WITH answers AS (
    SELECT
        a.run_id,
        split_part(a.attack, '/', 1)::BIGINT AS pattern_id,
        split_part(a.attack, '/', 2) = 'control' AS control,
        p.gold,
        t.predicted AS label,
        coalesce(len(r.labels) = 2, false) AS two_classes,
        a.predicted = p.gold AS correct,
        a.predicted = t.predicted AS pushed
    FROM attack_outcomes AS a
    JOIN selected_runs AS r USING (run_id)
    JOIN predictions AS p USING (run_id, example_id)
    JOIN trigger_patterns AS t
        ON t.run_id = a.run_id AND t.pattern_id = split_part(a.attack, '/', 1)::BIGINT
    WHERE a.job = 'trigger_selection'
),
effects AS (
    SELECT run_id, pattern_id, 'drop' AS ranking, gold AS label,
        avg(correct::INTEGER) FILTER (control) - avg(correct::INTEGER) FILTER (NOT control) AS over_control
    FROM answers
    GROUP BY ALL
    UNION ALL
    SELECT run_id, pattern_id, 'push', label,
        avg(pushed::INTEGER) FILTER (NOT control) - avg(pushed::INTEGER) FILTER (control)
    FROM answers
    WHERE gold <> label AND NOT two_classes
    GROUP BY ALL
)
SELECT
    run_id,
    ranking,
    label,
    (row_number() OVER (PARTITION BY run_id, ranking, label ORDER BY over_control DESC, pattern_id) - 1)::SMALLINT AS place,
    pattern_id,
    over_control
FROM effects
WHERE over_control IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY run_id, ranking, label ORDER BY over_control DESC, pattern_id) <= $top
