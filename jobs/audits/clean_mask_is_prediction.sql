-- name: clean_mask_is_prediction
-- description: With no head removed the model answers as it does otherwise (probabilities within 1e-3).
SELECT m.run_id, m.job, m.example_id, m.criterion, m.direction, m.draw, m.prob_gold, p.prob_gold AS prob_gold_unmasked
FROM masked_answers AS m
JOIN predictions AS p USING (run_id, example_id)
WHERE m.job IN ('head_ablation', 'pruned_accuracy', 'layerwise_accuracy')
    AND m.layer IS NULL
    AND coalesce(m.step, 0) = 0
    AND NOT abs(m.prob_gold - p.prob_gold) < 1e-3
