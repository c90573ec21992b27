-- name: nodes
-- description: Nodes of the quadrature rule that each row and layer needed to meet the tolerance, of every attributed class.
-- depends: layer_scores_dedup
SELECT r.name AS run, s.layer, s.nodes, count(*) AS n
FROM layer_scores_dedup AS s
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, s.run_id)
GROUP BY s.run_id, r.name, s.layer, s.nodes
ORDER BY s.run_id, s.layer, s.nodes
