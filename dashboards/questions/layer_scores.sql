-- name: layer_scores
-- description: The attributions of a layer sum to F(A) - F(0), up to completeness_error.
SELECT layer, f_full, f_zero, completeness_error, nodes, kept_mass
FROM layer_scores
WHERE run_id = $run_id AND example_id = $example AND target = $class
ORDER BY layer
