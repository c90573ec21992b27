-- name: unique_edges
-- description: No rank and no position comes twice among the edges of a head, or of a layer.
-- grain: table_name and the key
WITH keys AS (
    SELECT 'edges, rank' AS table_name, run_id, example_id, layer, head, target, rank AS a, NULL AS b
    FROM edges_dedup
    UNION ALL BY NAME
    SELECT 'edges' AS table_name, run_id, example_id, layer, head, target, query_pos AS a, key_pos AS b
    FROM edges_dedup
    UNION ALL BY NAME
    SELECT 'layer_edges' AS table_name, run_id, example_id, layer, target, query_pos AS a, key_pos AS b
    FROM layer_edges_dedup
)
SELECT table_name, run_id, example_id, layer, head, target, a, b, count(*) AS n
FROM keys
GROUP BY ALL
HAVING count(*) > 1
