-- name: finite_numbers
-- description: No stored number is NaN or infinite.
-- grain: table_name and the row
SELECT 'head_scores' AS table_name, run_id, example_id, layer, head, target
FROM head_scores_stored
WHERE NOT (
    isfinite(attr_max)
    AND isfinite(attr_second)
    AND isfinite(attr_sum)
    AND isfinite(attr_positive_sum)
    AND isfinite(attn_max)
    AND isfinite(attn_confidence)
    AND isfinite(taylor)
    AND coalesce(isfinite(taylor_released), true)
    AND isfinite(kept_mass)
)
UNION ALL BY NAME
SELECT 'layer_scores' AS table_name, run_id, example_id, layer, target
FROM layer_scores_stored
WHERE NOT (
    isfinite(f_full)
    AND isfinite(f_zero)
    AND isfinite(completeness_error)
    AND coalesce(isfinite(path_error), true)
    AND coalesce(isfinite(agreement_error), true)
    AND isfinite(off_first_max)
    AND isfinite(edge_floor)
    AND isfinite(kept_mass)
)
UNION ALL BY NAME
SELECT 'target_scores' AS table_name, run_id, example_id, target
FROM target_scores_stored
WHERE NOT isfinite(tree_top_mass)
UNION ALL BY NAME
SELECT 'edges' AS table_name, run_id, example_id, layer, head, target
FROM edges_stored
WHERE NOT (isfinite(attr) AND isfinite(attn))
UNION ALL BY NAME
SELECT 'layer_edges' AS table_name, run_id, example_id, layer, target
FROM layer_edges_stored
WHERE NOT isfinite(attr)
UNION ALL BY NAME
SELECT 'mask_outcomes' AS table_name, run_id, job, example_id, mask AS name
FROM mask_outcomes
WHERE NOT isfinite(prob_gold)
UNION ALL BY NAME
SELECT 'attack_outcomes' AS table_name, run_id, job, example_id, attack AS name
FROM attack_outcomes
WHERE NOT isfinite(prob_gold)
