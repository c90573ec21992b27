-- name: least_exact_rows
-- description: The rows with the largest completeness errors, with the nodes that their integrals took.
SELECT r.name AS run, s.example_id, s.layer, s.target, s.f_full - s.f_zero AS difference, s.completeness_error, s.nodes, r.tolerance
FROM layer_scores AS s
JOIN runs AS r USING (run_id)
ORDER BY abs(s.completeness_error) DESC
LIMIT 50
