-- name: interaction_distance
-- description: How far apart interacting tokens are, by layer (paper, section 5.2): the distribution of the distance over
--   tree edges, and over the strongest stored edges of every head.
-- grain: run_id, variant, layer, distance, within_segment
-- materialized: table
-- depends: tree_edges, edges, tokens
-- audits: distances_add_up
-- column variant: `released` or `greedy`: edges of that tree; `top_edges`: the stored edges of every head, of the gold
--   class (the predicted one in a run that attributes it alone).
-- column distance: |query_pos - key_pos| in tokens; of a tree of words (tree_edges, `units`) between their first pieces.
-- column within_segment: Whether both tokens are of one text of a pair; null if one of them is a special token.
-- column n: Edges.
WITH all_edges AS (
    SELECT run_id, example_id, variant, layer, query_pos, key_pos
    FROM tree_edges
    WHERE layer IS NOT NULL
    UNION ALL
    SELECT e.run_id, e.example_id, 'top_edges', e.layer, e.query_pos, e.key_pos
    FROM edges AS e
    JOIN runs AS r USING (run_id)
    WHERE e.target = if(r.targets = 'predicted', 'predicted', 'gold')
)
SELECT
    e.run_id,
    e.variant,
    e.layer,
    abs(e.query_pos - e.key_pos) AS distance,
    q.segment = k.segment AS within_segment,
    count(*) AS n
FROM all_edges AS e
JOIN selected_runs USING (run_id)
JOIN tokens AS q ON q.run_id = e.run_id AND q.example_id = e.example_id AND q.position = e.query_pos
JOIN tokens AS k ON k.run_id = e.run_id AND k.example_id = e.example_id AND k.position = e.key_pos
GROUP BY ALL
