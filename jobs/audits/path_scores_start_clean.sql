-- name: path_scores_start_clean
-- description: F(A) of every path is the probability that the model gives the gold class; that of one layer has the same
--   two ends for all heads.
-- grain: run_id, job, example_id, criterion, layer
SELECT s.run_id, s.job, s.example_id, s.criterion, s.layer, min(s.f_full) AS lowest, max(s.f_full) AS highest, any_value(p.prob_gold) AS prob_gold
FROM path_scores AS s
LEFT JOIN predictions AS p USING (run_id, example_id)
GROUP BY s.run_id, s.job, s.example_id, s.criterion, s.layer
HAVING NOT coalesce(max(abs(s.f_full - p.prob_gold)) < 1e-4, false)
    OR max(s.f_full) <> min(s.f_full)
    OR (s.criterion <> 'attattr_head' AND max(s.f_zero) <> min(s.f_zero))
