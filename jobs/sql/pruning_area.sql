-- name: pruning_area
-- description: Area under each pruning curve (trapezoids over the fraction pruned): one number a criterion, the whole
--   model's accuracy if pruning never cost an answer.
-- grain: run_id, criterion
-- materialized: table
-- depends: pruned_accuracy, pruning_curve
-- audits: area_matches_curve
-- column criterion: `attattr`, `taylor`, `taylor_normalised`, `taylor_released`, `accuracy_difference`, `attention` or
--   `random` (a control).
-- column area: Area under accuracy over fraction, 0 to 1; for `random` the mean of the draws.
-- column ci_low: Lower end of the 95 % interval over examples (Student); for `random` the smallest area of any draw.
-- column ci_high: Upper end of it; for `random` the largest area of any draw.
-- column over_random: area less that of `random` on the same rows, mean of the draws.
-- column over_random_low: Lower end of its 95 % interval over examples and random orders (paired by example; the
--   variance of both counts); null for `random`, and with a single draw.
-- column over_random_high: Upper end of it.
-- column draws: Random orders that `random` is the mean of.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH per_example AS (
    SELECT
        m.run_id,
        m.criterion,
        m.draw,
        m.example_id,
        coalesce(m.ablation, 'zero') AS ablation,
        sum((m.predicted = p.gold)::INTEGER * if(m.step IN (0, 10), 1, 2)) / 20 AS area
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'pruned_accuracy'
    GROUP BY ALL
),
control AS (
    SELECT run_id, example_id, exact_sum(area) / count(*) AS area
    FROM per_example
    WHERE criterion = 'random'
    GROUP BY ALL
),
draws AS (
    SELECT run_id, min(area) AS lowest, max(area) AS highest, exact_deviation(area) ** 2 AS variance, count(*) AS n
    FROM (SELECT run_id, draw, exact_sum(area) / count(*) AS area FROM per_example WHERE criterion = 'random' GROUP BY ALL)
    GROUP BY run_id
),
compared AS (
    SELECT
        e.run_id,
        e.criterion,
        e.criterion = 'random' AS is_control,
        exact_sum(e.area) / count(*) AS area,
        student(count(*) - 1) * exact_deviation(e.area) / sqrt(count(*)) AS half,
        exact_sum(e.area - c.area) / count(*) AS over_random,
        crossed_half(exact_deviation(e.area - c.area) ** 2, count(*), any_value(d.variance), any_value(d.n)) AS over_random_half,
        any_value(d.lowest) AS lowest,
        any_value(d.highest) AS highest,
        any_value(d.n) AS draws,
        any_value(e.ablation) AS ablation
    FROM per_example AS e
    JOIN control AS c USING (run_id, example_id)
    JOIN draws AS d USING (run_id)
    GROUP BY e.run_id, e.criterion
)
SELECT
    run_id,
    criterion,
    area,
    if(is_control, lowest, area - half) AS ci_low,
    if(is_control, highest, area + half) AS ci_high,
    if(is_control, 0, over_random) AS over_random,
    if(is_control, NULL, over_random - over_random_half) AS over_random_low,
    if(is_control, NULL, over_random + over_random_half) AS over_random_high,
    draws,
    ablation
FROM compared
