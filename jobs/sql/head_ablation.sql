-- name: head_ablation
-- description: Requests the model's answers with each single head removed, and with none: what the accuracy difference
--   of a head is counted from (Michel et al. 2019).
-- grain: run_id, example_id, layer, head
-- materialized: masked_answers
-- depends: splits, mean_rows
-- audits: clean_mask_is_prediction, masks_are_answered
-- param ablation: zero|mean = zero; What stands in place of a removed head's context: zero, or its mean over `mean_rows`.
-- column layer: Layer of the head removed; null where none is.
-- column head: The head removed.
WITH sampled AS (
    SELECT run_id, list(DISTINCT example_id ORDER BY example_id) AS example_ids
    FROM splits
    JOIN selected_runs USING (run_id)
    WHERE purpose = 'pruning'
    GROUP BY run_id
),
heads AS (
    SELECT run_id, n_heads, unnest(range(n_layers * n_heads)) AS number
    FROM selected_runs
)
SELECT s.run_id, NULL AS layer, NULL AS head, example_ids, mean_over, []::BIGINT[] AS heads
FROM sampled AS s
LEFT JOIN mean_rows AS m ON m.run_id = s.run_id AND $ablation = 'mean'
UNION ALL
SELECT run_id, number // n_heads, number % n_heads, example_ids, NULL, [number]
FROM sampled
JOIN heads USING (run_id)
