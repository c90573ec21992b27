-- name: head_paths_match_ablation
-- description: What each head's own path starts from is the model's answer without this head (probabilities within 1e-3),
--   where a job has removed it (by zero) too.
-- grain: run_id, job, example_id, layer, head
SELECT s.run_id, s.job, s.example_id, s.layer, s.head, s.f_full, s.f_zero, c.prob_gold AS clean, m.prob_gold AS without_head
FROM path_scores AS s
JOIN masked_answers AS m USING (run_id, example_id, layer, head)
JOIN masked_answers AS c ON c.run_id = s.run_id AND c.example_id = s.example_id AND c.job = m.job AND c.layer IS NULL
WHERE s.criterion = 'attattr_head'
    AND m.job = 'head_ablation'
    AND coalesce(m.ablation, 'zero') = 'zero'
    AND NOT abs((s.f_full - s.f_zero) - (c.prob_gold - m.prob_gold)) < 1e-3
