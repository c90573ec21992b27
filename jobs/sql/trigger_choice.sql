-- name: trigger_choice
-- description: The patterns that the selection rows recommend: for each gold class those that cost it most correct
--   answers, and for each class they argue for those that push most other answers there, beyond their random controls. With
--   two classes, what one loses the other gains, so each effect is counted once, as a `drop`.
--   Patterns mined by attention are chosen beside those mined by attribution, as many of each.
-- grain: run_id, source, ranking, label, place
-- materialized: table
-- depends: trigger_answers, trigger_selection
-- audits: choice_is_bounded
-- param top: integer from 1 = 3; Patterns of each source chosen for each ranking and class.
-- column pattern: Pattern (trigger_patterns.pattern).
-- column source: How it was mined: by `attribution` or by `attention`.
-- column ranking: `drop` (correct answers lost) or `push` (answers of other classes turned to the pattern's own; of runs
--   with more than two classes).
-- column label: Class: the gold class attacked, or the class pushed to.
-- column place: Place in the ranking, from 0.
-- column over_control: Share of rows changed beyond the mean of the random controls, on the selection rows.
WITH answers AS (
    SELECT a.*, coalesce(len(r.labels) = 2, false) AS two_classes
    FROM trigger_answers AS a
    JOIN selected_runs AS r USING (run_id)
    WHERE a.part = 'selection'
),
effects AS (
    SELECT run_id, source, pattern, 'drop' AS ranking, gold AS label,
        avg((answer = gold)::INTEGER) FILTER (control) - avg((answer = gold)::INTEGER) FILTER (NOT control) AS over_control
    FROM answers
    GROUP BY run_id, source, pattern, gold
    UNION ALL
    SELECT run_id, source, pattern, 'push', label,
        avg((answer = label)::INTEGER) FILTER (NOT control) - avg((answer = label)::INTEGER) FILTER (control)
    FROM answers
    WHERE gold <> label AND NOT two_classes
    GROUP BY run_id, source, pattern, label
)
SELECT
    run_id,
    source,
    ranking,
    label,
    (row_number() OVER (PARTITION BY run_id, source, ranking, label ORDER BY over_control DESC, pattern) - 1)::SMALLINT AS place,
    pattern,
    over_control
FROM effects
WHERE over_control IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY run_id, source, ranking, label ORDER BY over_control DESC, pattern) <= $top
