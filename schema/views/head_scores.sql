-- name: head_scores
-- description: Per example, head and target: statistics of the attribution and attention matrices. The table to
--   start from.
-- grain: run_id, example_id, layer, head, target
-- column target: Class attributed: `gold` or `predicted`; where they coincide, the same numbers under either.
SELECT * REPLACE ('gold' AS target) FROM head_scores_dedup WHERE target <> 'predicted'
UNION ALL
SELECT * REPLACE ('predicted' AS target) FROM head_scores_dedup WHERE target <> 'gold'
