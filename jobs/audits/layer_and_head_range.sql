-- name: layer_and_head_range
-- description: Facts are of layers and heads that the run's model has.
-- grain: table_name, run_id, layer, head
WITH used AS (
    SELECT DISTINCT 'head_scores' AS table_name, run_id, layer, head FROM head_scores_dedup
    UNION ALL BY NAME
    SELECT DISTINCT 'edges' AS table_name, run_id, layer, head FROM edges_dedup
    UNION ALL BY NAME
    SELECT DISTINCT 'attention_peaks' AS table_name, run_id, layer, head FROM attention_peaks
    UNION ALL BY NAME
    SELECT DISTINCT 'layer_scores' AS table_name, run_id, layer FROM layer_scores_dedup
    UNION ALL BY NAME
    SELECT DISTINCT 'layer_edges' AS table_name, run_id, layer FROM layer_edges_dedup
    UNION ALL BY NAME
    SELECT DISTINCT 'path_scores' AS table_name, run_id, layer, head FROM path_scores
)
SELECT u.*, r.n_layers, r.n_heads
FROM used AS u
JOIN runs AS r USING (run_id)
WHERE u.layer < 0 OR u.layer >= r.n_layers OR u.head < 0 OR u.head >= r.n_heads
