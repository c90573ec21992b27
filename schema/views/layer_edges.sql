-- name: layer_edges
-- description: Per example, layer and target: edges of the head-summed attribution matrix above the floor; of more than the
--   run's `edge_cap` (runs.config; default 512) the strongest.
-- grain: run_id, example_id, layer, target, query_pos, key_pos
-- column target: Class attributed: `gold` or `predicted`; where they coincide, the same numbers under either.
SELECT * REPLACE ('gold' AS target) FROM layer_edges_dedup WHERE target <> 'predicted'
UNION ALL
SELECT * REPLACE ('predicted' AS target) FROM layer_edges_dedup WHERE target <> 'gold'
