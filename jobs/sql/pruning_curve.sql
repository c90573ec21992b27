-- name: pruning_curve
-- description: Accuracy on the evaluation rows after pruning the least important heads (paper, section 4.2, figure 4).
-- grain: run_id, criterion, fraction
-- materialized: table
-- depends: pruned_accuracy, pruning_order
-- audits: curve_starts_clean, curve_is_complete
-- column criterion: `attattr`, `taylor`, `taylor_normalised`, `taylor_released`, `accuracy_difference`, `attention` or
--   `random` (a control).
-- column fraction: Share of all heads pruned.
-- column n_pruned: Heads pruned: int(fraction * heads).
-- column correct: Correct answers; for `random` over all draws together.
-- column n: Answers: evaluation rows, times draws for `random`.
-- column accuracy: correct / n.
-- column ci_low: Lower end of the 95 % Wilson interval; for `random` the lowest accuracy of any draw.
-- column ci_high: Upper end of it; for `random` the highest accuracy of any draw.
-- column draws: Random orders that went in; 1 for every other criterion.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH answers AS (
    SELECT
        m.run_id,
        m.criterion,
        m.draw,
        m.step,
        coalesce(m.ablation, 'zero') AS ablation,
        count(*) AS n,
        count(*) FILTER (m.predicted = p.gold) AS correct
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'pruned_accuracy'
    GROUP BY ALL
)
SELECT
    a.run_id,
    a.criterion,
    a.step / 10 AS fraction,
    a.step * any_value(r.n_layers) * any_value(r.n_heads) // 10 AS n_pruned,
    sum(a.correct)::BIGINT AS correct,
    sum(a.n)::BIGINT AS n,
    sum(a.correct) / sum(a.n) AS accuracy,
    if(a.criterion = 'random', min(a.correct / a.n), wilson_low(sum(a.correct), sum(a.n))) AS ci_low,
    if(a.criterion = 'random', max(a.correct / a.n), wilson_high(sum(a.correct), sum(a.n))) AS ci_high,
    count(*) AS draws,
    any_value(a.ablation) AS ablation
FROM answers AS a
JOIN selected_runs AS r USING (run_id)
GROUP BY a.run_id, a.criterion, a.step
