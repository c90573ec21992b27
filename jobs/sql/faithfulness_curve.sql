-- name: faithfulness_curve
-- description: How much of what the heads do together is done by the most important of them alone, on the evaluation rows:
--   f(k) = (m(k) - m(0)) / (m(all) - m(0)), where m(k) is the mean of a measure with the k most important heads kept and all
--   others removed. f(0) is 0 and f(all) is 1 (Mueller et al. 2025, MIB, for circuits).
-- grain: run_id, criterion, measure, kept
-- materialized: table
-- depends: pruned_values
-- audits: faithfulness_ends_are_fixed
-- column criterion: Criterion of the pruning order, or `random` (a control).
-- column measure: `prob_gold`, `margin_gold`, `prob_predicted` or `margin_predicted` (pruned_values).
-- column kept: Share of all heads kept.
-- column n_kept: Heads kept.
-- column mean: m(k); for `random` the mean of the draws.
-- column faithfulness: f(k); null where removing every head does not change the measure.
-- column ci_low: Lower end of its 95 % interval over examples (of a ratio of means); for `random` the lowest of any draw.
-- column ci_high: Upper end of it; for `random` the highest of any draw.
-- column n: Evaluation rows.
-- column draws: Random orders that `random` is the mean of.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH ablated AS (
    SELECT run_id, any_value(coalesce(ablation, 'zero')) AS ablation
    FROM masked_answers
    WHERE job = 'pruned_accuracy'
    GROUP BY run_id
),
by_row AS (
    SELECT
        v.*,
        v.value - any_value(v.value) FILTER (v.step = 10) OVER same AS gained,
        any_value(v.value) FILTER (v.step = 0) OVER same - any_value(v.value) FILTER (v.step = 10) OVER same AS whole
    FROM pruned_values AS v
    JOIN selected_runs USING (run_id)
    WINDOW same AS (PARTITION BY v.run_id, v.criterion, v.draw, v.measure, v.example_id)
),
means AS (
    SELECT
        run_id,
        criterion,
        draw,
        measure,
        step,
        count(*) AS n,
        exact_sum(value) / count(*) AS mean,
        exact_sum(gained) / nullif(exact_sum(whole), 0) AS faithfulness,
        exact_sum(whole) / count(*) AS whole_mean
    FROM by_row
    GROUP BY ALL
),
spread AS (
    SELECT
        r.run_id,
        r.criterion,
        r.draw,
        r.measure,
        r.step,
        exact_deviation((r.gained - m.faithfulness * r.whole) / nullif(m.whole_mean - r.whole / m.n, 0)) / sqrt(count(*))
            AS error
    FROM by_row AS r
    JOIN means AS m USING (run_id, criterion, draw, measure, step)
    GROUP BY ALL
)
SELECT
    m.run_id,
    m.criterion,
    m.measure,
    (10 - m.step) / 10 AS kept,
    any_value(r.n_layers * r.n_heads - m.step * r.n_layers * r.n_heads // 10) AS n_kept,
    exact_sum(m.mean) / count(*) AS mean,
    exact_sum(m.faithfulness) / count(m.faithfulness) AS faithfulness,
    if(m.criterion = 'random', min(m.faithfulness), any_value(m.faithfulness - student(m.n - 1) * s.error)) AS ci_low,
    if(m.criterion = 'random', max(m.faithfulness), any_value(m.faithfulness + student(m.n - 1) * s.error)) AS ci_high,
    any_value(m.n) AS n,
    count(*) AS draws,
    any_value(b.ablation) AS ablation
FROM means AS m
LEFT JOIN ablated AS b USING (run_id)
JOIN spread AS s USING (run_id, criterion, draw, measure, step)
JOIN selected_runs AS r USING (run_id)
GROUP BY m.run_id, m.criterion, m.measure, m.step
