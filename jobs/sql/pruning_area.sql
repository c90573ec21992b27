-- name: pruning_area
-- description: Area under each pruning curve (trapezoids over the fraction pruned): one number a criterion, the whole
--   model's accuracy if pruning never cost an answer.
-- grain: run_id, criterion
-- materialized: table
-- depends: pruned_accuracy, pruning_curve
-- audits: area_matches_curve
-- column criterion: `attattr`, `taylor`, `accuracy_difference`, `attention` or `random` (a control).
-- column area: Area under accuracy over fraction, 0 to 1; for `random` the mean of the draws.
-- column ci_low: Lower end of the 95 % interval over examples (normal); for `random` the smallest area of any draw.
-- column ci_high: Upper end of it; for `random` the largest area of any draw.
-- column over_random: area less that of `random` on the same rows.
-- column over_random_low: Lower end of its 95 % interval over examples (normal, paired); null for `random`.
-- column over_random_high: Upper end of it.
WITH per_example AS (
    SELECT
        m.run_id,
        split_part(m.mask, '/', 1) AS criterion,
        split_part(m.mask, '/', 2)::INTEGER AS draw,
        m.example_id,
        sum((m.predicted = p.gold)::INTEGER * if(split_part(m.mask, '/', 3) IN ('0', '10'), 0.05::DOUBLE, 0.1::DOUBLE)) AS area
    FROM mask_outcomes AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'pruned_accuracy'
    GROUP BY ALL
),
control AS (
    SELECT run_id, example_id, avg(area) AS area FROM per_example WHERE criterion = 'random' GROUP BY ALL
),
draws AS (
    SELECT run_id, min(area) AS lowest, max(area) AS highest
    FROM (SELECT run_id, draw, avg(area) AS area FROM per_example WHERE criterion = 'random' GROUP BY ALL)
    GROUP BY run_id
)
SELECT
    e.run_id,
    e.criterion,
    avg(e.area) AS area,
    if(e.criterion = 'random', any_value(d.lowest), avg(e.area) - 1.96 * stddev_samp(e.area) / sqrt(count(*))) AS ci_low,
    if(e.criterion = 'random', any_value(d.highest), avg(e.area) + 1.96 * stddev_samp(e.area) / sqrt(count(*))) AS ci_high,
    if(e.criterion = 'random', 0, avg(e.area - c.area)) AS over_random,
    if(e.criterion = 'random', NULL, avg(e.area - c.area) - 1.96 * stddev_samp(e.area - c.area) / sqrt(count(*)))
        AS over_random_low,
    if(e.criterion = 'random', NULL, avg(e.area - c.area) + 1.96 * stddev_samp(e.area - c.area) / sqrt(count(*)))
        AS over_random_high
FROM per_example AS e
JOIN control AS c USING (run_id, example_id)
JOIN draws AS d USING (run_id)
GROUP BY e.run_id, e.criterion
