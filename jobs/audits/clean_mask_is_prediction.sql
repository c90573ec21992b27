-- name: clean_mask_is_prediction
-- description: With no head removed the model answers as it does otherwise (probabilities within 1e-3).
SELECT m.run_id, m.example_id, m.prob_gold, p.prob_gold AS prob_gold_unmasked
FROM mask_outcomes AS m
JOIN predictions AS p USING (run_id, example_id)
WHERE m.job = 'head_ablation' AND m.mask = 'clean' AND NOT abs(m.prob_gold - p.prob_gold) < 1e-3
