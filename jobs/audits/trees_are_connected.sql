-- name: trees_are_connected
-- description: Every edge of an attribution tree starts at a node that is in the tree.
-- depends: tree_edges
WITH nodes AS (
    SELECT run_id, example_id, target, variant, key_pos AS node FROM tree_edges WHERE layer IS NOT NULL
    UNION
    SELECT run_id, example_id, target, variant, top FROM tree_edges
)
SELECT e.*
FROM tree_edges AS e
ANTI JOIN nodes AS n
    ON n.run_id = e.run_id AND n.example_id = e.example_id AND n.target = e.target AND n.variant = e.variant
    AND n.node = e.query_pos
WHERE e.layer IS NOT NULL
