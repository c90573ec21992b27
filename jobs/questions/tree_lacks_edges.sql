-- name: tree_lacks_edges
-- description: Layers of which edges may be missing in a released tree without any edges: more lie above the threshold $tau
--   than the run's `edge_cap` let it store. The job tree_edges decides it in the same way, but has no row of such a tree.
--   Released trees take nothing from the last layer. Of words ($units), any missing edge may count.
SELECT e.layer
FROM layer_edges AS e
JOIN layer_scores AS s USING (run_id, example_id, target, layer)
JOIN runs AS r USING (run_id)
WHERE e.run_id = $run_id AND e.example_id = $example_id AND e.target = $target AND e.layer < r.n_layers - 1
GROUP BY e.layer
HAVING count(*) >= any_value(json_extract_string(r.config, '$.edge_cap')::INTEGER)
    AND ($units = 'words' OR min(e.attr::DOUBLE / nullif(abs(s.off_first_max), 0)) >= $tau)
