-- name: pruning_area
-- description: Area under each pruning curve (trapezoids over the fraction pruned), by what is measured along it; and how
--   much larger it is than those of random orders and of `attattr`, on the same rows.
-- grain: run_id, criterion, measure
-- materialized: table
-- depends: pruned_accuracy, pruning_curve
-- audits: area_matches_curve
-- column criterion: A criterion of head_values, or `random` (a control).
-- column measure: `accuracy`, `balanced_accuracy` or `prob_gold` (columns of pruning_curve).
-- column area: Area, 0 to 1: that of the whole model's value if pruning never cost any; for `random` the mean of the draws.
-- column ci_low: Lower end of the 95 % interval over examples (Student); for `random` the smallest area of any draw.
-- column ci_high: Upper end of it; for `random` the largest area of any draw.
-- column over_random: area less that of `random` on the same rows, mean of the draws.
-- column over_random_low: Lower end of its 95 % interval over examples and random orders (paired by example; the
--   variance of both counts); null for `random`, and with a single draw.
-- column over_random_high: Upper end of it.
-- column over_attattr: area less that of `attattr` on the same rows; null for `random`.
-- column over_attattr_low: Lower end of its 95 % interval over examples (paired by example; Student); null for `attattr`.
-- column over_attattr_high: Upper end of it.
-- column draws: Random orders that `random` is the mean of.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH ablated AS (
    SELECT run_id, any_value(coalesce(ablation, 'zero')) AS ablation
    FROM masked_answers
    WHERE job = 'pruned_accuracy'
    GROUP BY run_id
),
per_example AS (
    SELECT
        m.run_id,
        m.criterion,
        m.draw,
        m.example_id,
        any_value(p.gold) AS gold,
        sum((m.predicted = p.gold)::INTEGER * if(m.step IN (0, 10), 1, 2)) / 20 AS accuracy,
        exact_sum(m.prob_gold * if(m.step IN (0, 10), 1, 2)) / 20 AS prob_gold
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'pruned_accuracy'
    GROUP BY m.run_id, m.criterion, m.draw, m.example_id
),
classes AS (
    SELECT run_id, gold, sum(n) OVER (PARTITION BY run_id) / count(*) OVER (PARTITION BY run_id) / n AS weight
    FROM (SELECT run_id, gold, count(DISTINCT example_id) AS n FROM per_example GROUP BY ALL)
),
-- An example's value, whose mean over all is the area. A row of a rare class counts more towards balanced accuracy.
measured AS (
    SELECT run_id, criterion, draw, example_id, gold, 'accuracy' AS measure, accuracy AS value FROM per_example
    UNION ALL
    SELECT run_id, criterion, draw, example_id, gold, 'prob_gold', prob_gold FROM per_example
    UNION ALL
    SELECT run_id, criterion, draw, example_id, gold, 'balanced_accuracy', weight * accuracy
    FROM per_example
    JOIN classes USING (run_id, gold)
),
by_row AS (
    SELECT run_id, criterion, measure, example_id, any_value(gold) AS gold, exact_sum(value) / count(*) AS value
    FROM measured
    GROUP BY run_id, criterion, measure, example_id
),
-- How far the value is from its mean, which is that of the row's class where classes have fixed weights.
spread AS (
    SELECT
        *,
        value - exact_sum(value) OVER of_mean / count(*) OVER of_mean AS residual
    FROM by_row
    WINDOW of_mean AS (PARTITION BY run_id, criterion, measure, if(measure = 'balanced_accuracy', gold, NULL))
),
draws AS (
    SELECT
        run_id,
        measure,
        min(area) AS lowest,
        max(area) AS highest,
        exact_deviation(area) ** 2 AS variance,
        count(*) AS n
    FROM (
        SELECT run_id, measure, draw, exact_sum(value) / count(*) AS area
        FROM measured
        WHERE criterion = 'random'
        GROUP BY ALL
    )
    GROUP BY run_id, measure
),
compared AS (
    SELECT
        e.run_id,
        e.criterion,
        e.measure,
        e.criterion = 'random' AS is_control,
        exact_sum(e.value) / count(*) AS area,
        student(count(*) - 1) * exact_deviation(e.residual) / sqrt(count(*)) AS half,
        exact_sum(e.value - c.value) / count(*) AS over_random,
        crossed_half(exact_deviation(e.residual - c.residual) ** 2, count(*), any_value(d.variance), any_value(d.n))
            AS over_random_half,
        exact_sum(e.value - a.value) / count(*) AS over_attattr,
        student(count(*) - 1) * exact_deviation(e.residual - a.residual) / sqrt(count(*)) AS over_attattr_half,
        any_value(d.lowest) AS lowest,
        any_value(d.highest) AS highest,
        any_value(d.n) AS draws
    FROM spread AS e
    JOIN spread AS c
        ON c.run_id = e.run_id AND c.measure = e.measure AND c.example_id = e.example_id AND c.criterion = 'random'
    LEFT JOIN spread AS a
        ON a.run_id = e.run_id AND a.measure = e.measure AND a.example_id = e.example_id AND a.criterion = 'attattr'
    JOIN draws AS d ON d.run_id = e.run_id AND d.measure = e.measure
    GROUP BY e.run_id, e.criterion, e.measure
)
SELECT
    run_id,
    criterion,
    measure,
    area,
    if(is_control, lowest, area - half) AS ci_low,
    if(is_control, highest, area + half) AS ci_high,
    if(is_control, 0, over_random) AS over_random,
    if(is_control, NULL, over_random - over_random_half) AS over_random_low,
    if(is_control, NULL, over_random + over_random_half) AS over_random_high,
    if(is_control, NULL, over_attattr) AS over_attattr,
    if(is_control OR criterion = 'attattr', NULL, over_attattr - over_attattr_half) AS over_attattr_low,
    if(is_control OR criterion = 'attattr', NULL, over_attattr + over_attattr_half) AS over_attattr_high,
    draws,
    ablation
FROM compared
JOIN ablated USING (run_id)
