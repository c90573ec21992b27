-- name: target_scores
-- description: Per example and target: the class attributed and the top node of its attribution tree.
-- grain: run_id, example_id, target
-- column target: Class attributed: `gold` or `predicted`; where they coincide, the same numbers under either.
SELECT * REPLACE ('gold' AS target) FROM target_scores_dedup WHERE target <> 'predicted'
UNION ALL
SELECT * REPLACE ('predicted' AS target) FROM target_scores_dedup WHERE target <> 'gold'
