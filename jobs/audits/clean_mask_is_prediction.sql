-- name: clean_mask_is_prediction
-- description: With no head removed the model answers as it does otherwise (probabilities within 1e-3).
SELECT m.run_id, m.job, m.example_id, m.mask, m.prob_gold, p.prob_gold AS prob_gold_unmasked
FROM mask_outcomes AS m
JOIN predictions AS p USING (run_id, example_id)
WHERE CASE m.job
        WHEN 'head_ablation' THEN m.mask = 'clean'
        WHEN 'pruned_accuracy' THEN m.mask LIKE '%/%/0'
        WHEN 'layerwise_accuracy' THEN m.mask LIKE '%/%/0'
        ELSE false
    END
    AND NOT abs(m.prob_gold - p.prob_gold) < 1e-3
