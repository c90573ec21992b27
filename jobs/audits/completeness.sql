-- name: completeness
-- description: In adaptive runs no row's completeness error or path error exceeds the run's tolerance.
-- grain: run_id, example_id, layer, target
SELECT s.run_id, s.example_id, s.layer, s.target, s.completeness_error, s.path_error, s.nodes, r.tolerance
FROM layer_scores_stored AS s
JOIN runs AS r USING (run_id)
WHERE r.quadrature = 'adaptive' AND greatest(abs(s.completeness_error), s.path_error) > r.tolerance
