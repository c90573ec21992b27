-- name: distances_add_up
-- description: The distribution of distances counts every edge of the trees.
-- depends: interaction_distance, tree_edges
WITH counted AS (
    SELECT run_id, variant, sum(n) AS n FROM interaction_distance WHERE variant <> 'top_edges' GROUP BY ALL
),
edges_of_trees AS (
    SELECT run_id, variant, count(*) AS n FROM tree_edges WHERE layer IS NOT NULL GROUP BY ALL
)
SELECT run_id, variant, c.n AS counted, t.n AS edges
FROM counted AS c
FULL JOIN edges_of_trees AS t USING (run_id, variant)
WHERE c.n IS DISTINCT FROM t.n
