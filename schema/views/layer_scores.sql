-- name: layer_scores
-- description: Per example, layer and target: both sides of completeness and how the integral was computed.
-- grain: run_id, example_id, layer, target
-- column target: Class attributed: `gold` or `predicted`; where they coincide, the same numbers under either.
SELECT * REPLACE ('gold' AS target) FROM layer_scores_dedup WHERE target <> 'predicted'
UNION ALL
SELECT * REPLACE ('predicted' AS target) FROM layer_scores_dedup WHERE target <> 'gold'
