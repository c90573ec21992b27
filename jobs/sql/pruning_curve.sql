-- name: pruning_curve
-- description: What is left on the evaluation rows after pruning the least important heads (paper, section 4.2, figure 4):
--   accuracy, balanced accuracy and the probability of the gold label. Accuracy alone partly measures which constant answer
--   a pruned model gives; the share of the most frequent class stands beside it.
-- grain: run_id, criterion, fraction
-- materialized: table
-- depends: pruned_accuracy, pruning_order
-- audits: curve_starts_clean, curve_is_complete
-- column criterion: A criterion of head_values, or `random` (a control).
-- column fraction: Share of all heads pruned.
-- column n_pruned: Heads pruned: int(fraction * heads).
-- column correct: Correct answers; for `random` over all draws together.
-- column n: Answers: evaluation rows, times draws for `random`.
-- column accuracy: correct / n.
-- column ci_low: Lower end of the 95 % Wilson interval of accuracy; for `random` the lowest of any draw.
-- column ci_high: Upper end of it; for `random` the highest of any draw.
-- column balanced_accuracy: Mean over gold classes of the accuracy on their rows.
-- column prob_gold: Mean probability of the gold label.
-- column majority: Accuracy of always answering the most frequent class of the evaluation rows.
-- column draws: Random orders that went in; 1 for every other criterion.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH ablated AS (
    SELECT run_id, any_value(coalesce(ablation, 'zero')) AS ablation
    FROM masked_answers
    WHERE job = 'pruned_accuracy'
    GROUP BY run_id
),
by_class AS (
    SELECT
        m.run_id,
        m.criterion,
        m.draw,
        m.step,
        p.gold,
        count(*) AS n,
        count(*) FILTER (m.predicted = p.gold) AS correct,
        exact_sum(m.prob_gold) AS prob_gold
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'pruned_accuracy'
    GROUP BY ALL
),
by_draw AS (
    SELECT
        run_id,
        criterion,
        draw,
        step,
        sum(n) AS n,
        sum(correct) AS correct,
        exact_sum(correct / n) / count(*) AS balanced_accuracy,
        exact_sum(prob_gold) / sum(n) AS prob_gold,
        max(n) / sum(n) AS majority
    FROM by_class
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
    exact_sum(a.balanced_accuracy) / count(*) AS balanced_accuracy,
    exact_sum(a.prob_gold) / count(*) AS prob_gold,
    any_value(a.majority) AS majority,
    count(*) AS draws,
    any_value(b.ablation) AS ablation
FROM by_draw AS a
JOIN ablated AS b USING (run_id)
JOIN selected_runs AS r USING (run_id)
GROUP BY a.run_id, a.criterion, a.step
