-- name: head_values
-- description: Per example and head, the value whose mean over examples is the head's importance by a criterion.
-- grain: run_id, criterion, example_id, layer, head
-- materialized: view
-- depends: head_scores, predictions, masked_answers, head_ablation, path_scores, path_attribution
-- column criterion: `attattr` (largest attribution), `attattr_positive_sum` and `attattr_absolute_sum` (sums of the
--   matrix's positive entries, and of all without their signs), `taylor` (the paper's printed formula), `taylor_normalised` (the same
--   values, whose means are divided by the L2 norm of their layer's where they become importances), `taylor_released` (of
--   the authors' script, normalised in the same way; not of runs of earlier releases, which lack it), `attention` (mean
--   over query rows of the row's largest weight), `accuracy_difference` (1 if removing the head turns a correct answer
--   wrong, -1 if a wrong one right) or `probability_difference` (what removing it takes from the gold probability).
--   Of a sample of the ranking rows (path_attribution): `attattr_uniform`, `attattr_mean` (the head's sum, as it has no
--   matrix), `attattr_head` and `attattr_idg`.
-- column value: The value. Attribution and the first two Taylor scores are of the gold class; of the predicted one in a run
--   that attributes it alone. `taylor_released` is of no class.
WITH scored AS (
    SELECT h.*
    FROM head_scores AS h
    JOIN runs AS r USING (run_id)
    WHERE h.target = if(r.targets = 'predicted', 'predicted', 'gold')
),
answers AS (
    SELECT m.run_id, m.example_id, m.layer, m.head, m.predicted = p.gold AS correct, m.prob_gold
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    WHERE m.job = 'head_ablation'
)
SELECT run_id, 'attattr' AS criterion, example_id, layer, head, attr_max::DOUBLE AS value FROM scored
UNION ALL
SELECT run_id, 'attattr_positive_sum', example_id, layer, head, attr_positive_sum::DOUBLE FROM scored
UNION ALL
SELECT run_id, 'attattr_absolute_sum', example_id, layer, head, 2 * attr_positive_sum::DOUBLE - attr_sum FROM scored
UNION ALL
SELECT run_id, criterion, example_id, layer, head, coalesce(attr_max, attr_sum)::DOUBLE FROM path_scores
UNION ALL
SELECT run_id, unnest(['taylor', 'taylor_normalised']), example_id, layer, head, taylor::DOUBLE FROM scored
UNION ALL
SELECT run_id, 'taylor_released', example_id, layer, head, taylor_released::DOUBLE
FROM scored
WHERE taylor_released IS NOT NULL
UNION ALL
SELECT run_id, 'attention', example_id, layer, head, attn_confidence::DOUBLE FROM scored
UNION ALL
SELECT
    without.run_id,
    unnest(['accuracy_difference', 'probability_difference']),
    without.example_id,
    without.layer,
    without.head,
    unnest([clean.correct::DOUBLE - without.correct::DOUBLE, clean.prob_gold::DOUBLE - without.prob_gold])
FROM answers AS without
JOIN answers AS clean USING (run_id, example_id)
WHERE without.layer IS NOT NULL AND clean.layer IS NULL
