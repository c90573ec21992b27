-- name: target_follows_prediction
-- description: Attributed classes that are not the label their target names, or a target `both` where gold and
--   predicted label differ.
-- grain: run_id, example_id, target
SELECT t.run_id, t.example_id, t.target, t.label, c.gold, c.predicted
FROM target_scores_stored AS t
JOIN predictions AS c USING (run_id, example_id)
WHERE (t.target <> 'predicted' AND t.label IS DISTINCT FROM c.gold)
    OR (t.target <> 'gold' AND t.label IS DISTINCT FROM c.predicted)
