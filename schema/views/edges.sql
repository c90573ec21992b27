-- name: edges
-- description: Per example, head and target: the k edges with the largest attribution.
-- grain: run_id, example_id, layer, head, target, rank
-- column target: Class attributed: `gold` or `predicted`; where they coincide, the same numbers under either.
SELECT * REPLACE ('gold' AS target) FROM edges_dedup WHERE target <> 'predicted'
UNION ALL
SELECT * REPLACE ('predicted' AS target) FROM edges_dedup WHERE target <> 'gold'
