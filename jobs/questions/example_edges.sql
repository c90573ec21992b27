-- name: example_edges
-- description: The stored edges of the example $example_id of the run $run_id, for the class $target.
SELECT layer, head, query_pos, key_pos, attr
FROM edges
WHERE run_id = $run_id AND example_id = $example_id AND target = $target
