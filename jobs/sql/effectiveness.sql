-- name: effectiveness
-- description: Accuracy with the k heads of each layer removed that have the largest (or smallest) attribution for the
--   gold label in the example itself (paper, section 4.1, figure 2). The gold label leaks in by design: keeping the heads
--   that argue for it favours it.
-- grain: run_id, criterion, direction, k
-- materialized: table
-- depends: layerwise_accuracy
-- audits: effectiveness_ends_agree
-- column criterion: A criterion of layerwise_accuracy: `attattr`, rivals that know the gold label too, two that know the
--   predicted class alone, and `attention`, which knows neither.
-- column direction: `largest_first` or `smallest_first`: which heads are removed.
-- column k: Heads removed in each layer.
-- column correct: Correct answers.
-- column n: Examples.
-- column accuracy: correct / n.
-- column ci_low: Lower end of the 95 % Wilson interval.
-- column ci_high: Upper end of it.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
WITH answers AS (
    SELECT
        m.run_id,
        m.criterion,
        m.direction,
        m.step AS k,
        coalesce(m.ablation, 'zero') AS ablation,
        count(*) FILTER (m.predicted = p.gold) AS correct,
        count(*) AS n
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    JOIN selected_runs USING (run_id)
    WHERE m.job = 'layerwise_accuracy'
    GROUP BY ALL
)
SELECT * EXCLUDE (ablation), correct / n AS accuracy, wilson_low(correct, n) AS ci_low, wilson_high(correct, n) AS ci_high, ablation
FROM answers
