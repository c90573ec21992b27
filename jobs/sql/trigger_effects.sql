-- name: trigger_effects
-- description: Whether the chosen patterns do more than random tokens at the same places, on rows that did not choose them:
--   answers lost (`drop`) or pushed (`push`), beyond the control, with a paired interval over rows.
-- grain: run_id, ranking, label, place
-- materialized: table
-- depends: trigger_choice, trigger_report, trigger_patterns
-- audits: effects_are_shares
-- column pattern_id: Pattern (trigger_patterns.pattern_id).
-- column ranking: `drop`: rows of the gold class `label` that lose their correct answer; `push`: rows of other gold classes
--   that are answered with `label`.
-- column label: Class.
-- column place: Place in the ranking on the selection rows, from 0.
-- column tokens: The pattern's tokens.
-- column n: Rows.
-- column clean: Share of rows answered correctly (drop), or with the label (push), without an insertion.
-- column pattern: The same with the pattern inserted.
-- column control: The same with random tokens inserted: mean over draws.
-- column over_control: How much further the pattern goes than its control: control - pattern (drop), pattern - control
--   (push).
-- column ci_low: Lower end of the 95 % interval of over_control over rows (normal, paired).
-- column ci_high: Upper end of it.
-- column draws: Random controls.
WITH answers AS (
    SELECT
        c.run_id,
        c.ranking,
        c.label,
        c.place,
        c.pattern_id,
        a.example_id,
        if(c.ranking = 'drop', any_value(p.predicted) = any_value(p.gold), any_value(p.predicted) = c.label)::INTEGER AS clean,
        avg(if(c.ranking = 'drop', a.predicted = p.gold, a.predicted = c.label)::INTEGER)
            FILTER (split_part(a.attack, '/', 2) = 'pattern') AS pattern,
        avg(if(c.ranking = 'drop', a.predicted = p.gold, a.predicted = c.label)::INTEGER)
            FILTER (split_part(a.attack, '/', 2) = 'control') AS control,
        count(*) - 1 AS draws
    FROM trigger_choice AS c
    JOIN selected_runs USING (run_id)
    JOIN attack_outcomes AS a ON a.run_id = c.run_id AND split_part(a.attack, '/', 1)::BIGINT = c.pattern_id
    JOIN predictions AS p ON p.run_id = a.run_id AND p.example_id = a.example_id
    WHERE a.job = 'trigger_report' AND (p.gold = c.label) = (c.ranking = 'drop')
    GROUP BY c.run_id, c.ranking, c.label, c.place, c.pattern_id, a.example_id
),
signed AS (
    SELECT *, if(ranking = 'drop', control - pattern, pattern - control) AS beyond FROM answers
)
SELECT
    s.run_id,
    s.ranking,
    s.label,
    s.place,
    s.pattern_id,
    any_value(t.tokens) AS tokens,
    count(*) AS n,
    avg(s.clean) AS clean,
    avg(s.pattern) AS pattern,
    avg(s.control) AS control,
    avg(s.beyond) AS over_control,
    avg(s.beyond) - 1.96 * stddev_samp(s.beyond) / sqrt(count(*)) AS ci_low,
    avg(s.beyond) + 1.96 * stddev_samp(s.beyond) / sqrt(count(*)) AS ci_high,
    max(s.draws) AS draws
FROM signed AS s
JOIN trigger_patterns AS t USING (run_id, pattern_id)
GROUP BY s.run_id, s.ranking, s.label, s.place, s.pattern_id
