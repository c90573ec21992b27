-- name: tree_nodes_have_one_parent
-- description: In an attribution tree every node but the top has one parent, and the top has none.
-- depends: tree_edges
SELECT run_id, example_id, target, variant, key_pos, count(*) AS parents
FROM tree_edges
WHERE layer IS NOT NULL
GROUP BY ALL
HAVING count(*) > 1 OR bool_or(key_pos = top)
