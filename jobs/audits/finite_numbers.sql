-- name: finite_numbers
-- description: No stored number is NaN or infinite (kept_mass looks at the shares of kept attribution).
-- grain: table_name and the row
SELECT 'head_scores' AS table_name, run_id, example_id, layer, head, target
FROM head_scores_dedup
WHERE NOT (
    isfinite(attr_max)
    AND isfinite(attr_second)
    AND isfinite(attr_sum)
    AND isfinite(attr_positive_sum)
    AND isfinite(attn_max)
    AND isfinite(attn_confidence)
    AND isfinite(taylor)
    AND coalesce(isfinite(taylor_released), true)
    AND coalesce(isfinite(grad_attn), true)
)
UNION ALL BY NAME
SELECT 'layer_scores' AS table_name, run_id, example_id, layer, target
FROM layer_scores_dedup
WHERE NOT (
    isfinite(f_full)
    AND isfinite(f_zero)
    AND isfinite(completeness_error)
    AND coalesce(isfinite(path_error), true)
    AND coalesce(isfinite(agreement_error), true)
    AND isfinite(off_first_max)
    AND isfinite(edge_floor)
)
UNION ALL BY NAME
SELECT 'target_scores' AS table_name, run_id, example_id, target
FROM target_scores_dedup
WHERE NOT isfinite(tree_top_mass)
UNION ALL BY NAME
SELECT 'edges' AS table_name, run_id, example_id, layer, head, target
FROM edges_dedup
WHERE NOT (isfinite(attr) AND isfinite(attn))
UNION ALL BY NAME
SELECT 'layer_edges' AS table_name, run_id, example_id, layer, target
FROM layer_edges_dedup
WHERE NOT isfinite(attr)
UNION ALL BY NAME
SELECT 'attention_peaks' AS table_name, run_id, example_id, layer, head
FROM attention_peaks
WHERE NOT isfinite(attn)
UNION ALL BY NAME
SELECT 'masked_answers' AS table_name, run_id, job, example_id, criterion, direction, draw, step, layer, head
FROM masked_answers
WHERE NOT (isfinite(prob_gold) AND coalesce(list_bool_and(list_transform(logits, lambda x: isfinite(x))), true))
UNION ALL BY NAME
SELECT 'attacked_answers' AS table_name, run_id, job, example_id, pattern, control, draw
FROM attacked_answers
WHERE NOT (isfinite(prob_gold) AND coalesce(list_bool_and(list_transform(logits, lambda x: isfinite(x))), true))
UNION ALL BY NAME
SELECT 'path_scores' AS table_name, run_id, job, example_id, criterion, layer, head
FROM path_scores
WHERE NOT (
    coalesce(isfinite(attr_max), true)
    AND coalesce(isfinite(attr_positive_sum), true)
    AND isfinite(attr_sum)
    AND isfinite(f_full)
    AND isfinite(f_zero)
    AND coalesce(isfinite(completeness_error), true)
    AND isfinite(path_error)
)
