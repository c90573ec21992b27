-- name: trees_are_connected
-- description: Every edge of an attribution tree starts at the top, or at a node that the sweep had reached before it; so
--   every node can be reached from the top.
-- depends: tree_edges
WITH reached AS (
    SELECT run_id, example_id, target, variant, key_pos AS node, layer, query_pos
    FROM tree_edges
    WHERE layer IS NOT NULL
)
SELECT e.*
FROM tree_edges AS e
ANTI JOIN reached AS n
    ON n.run_id = e.run_id AND n.example_id = e.example_id AND n.target = e.target AND n.variant = e.variant
    AND n.node = e.query_pos
    -- The sweep goes from the last layer down, and within a layer by row: that leaves no room for a ring.
    AND (n.layer > e.layer OR (n.layer = e.layer AND n.query_pos < e.query_pos))
WHERE e.layer IS NOT NULL AND e.query_pos <> e.top
