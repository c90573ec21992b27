-- name: target_follows_prediction
-- description: The attributed class is the label that its target names; target `both` stands where gold and predicted label
--   agree.
-- grain: run_id, example_id, target
SELECT t.run_id, t.example_id, t.target, t.label, c.gold, c.predicted
FROM target_scores_dedup AS t
JOIN predictions AS c USING (run_id, example_id)
WHERE (t.target <> 'predicted' AND t.label IS DISTINCT FROM c.gold)
    OR (t.target <> 'gold' AND t.label IS DISTINCT FROM c.predicted)
