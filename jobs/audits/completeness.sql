-- name: completeness
-- description: In adaptive runs every row is certified, and neither its completeness error nor its path error exceeds
--   the run's tolerance.
-- grain: run_id, example_id, layer, target
SELECT s.run_id, s.example_id, s.layer, s.target, s.completeness_error, s.path_error, s.agreement_error,
    s.nodes, s.certified, r.tolerance
FROM layer_scores_dedup AS s
JOIN runs AS r USING (run_id)
WHERE
    r.quadrature = 'adaptive'
    AND (NOT coalesce(s.certified, true) OR greatest(abs(s.completeness_error), s.path_error) > r.tolerance)
