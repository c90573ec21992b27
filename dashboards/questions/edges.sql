-- name: edges
-- description: Stored edges of one example in one layer: of a head, or, without one, those of the sum over its heads.
SELECT query_pos, key_pos, attr
FROM edges
WHERE run_id = $run_id AND example_id = $example AND target = $class AND layer = $layer AND head = $head
UNION ALL
SELECT query_pos, key_pos, attr
FROM layer_edges
WHERE run_id = $run_id AND example_id = $example AND target = $class AND layer = $layer AND $head IS NULL
