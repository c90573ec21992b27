-- name: probabilities
-- description: Probabilities are a distribution over the run's labels, the predicted label is the most probable one, and
--   the prob_ columns follow from them.
-- grain: run_id, example_id
SELECT c.run_id, c.example_id, c.gold, c.predicted, c.prob_gold, c.prob_predicted, c.probabilities
FROM predictions AS c
JOIN runs AS r USING (run_id)
WHERE len(c.probabilities) <> len(r.labels)
    OR NOT coalesce(list_min(c.probabilities) >= 0 AND list_max(c.probabilities) <= 1, false)
    OR NOT coalesce(abs(list_sum(c.probabilities) - 1) <= 1e-4, false)
    OR NOT coalesce(list_max(c.probabilities) - c.probabilities[c.predicted + 1] <= 1e-6, false)
    OR NOT coalesce(abs(c.prob_predicted - c.probabilities[c.predicted + 1]) <= 1e-6, false)
    OR (c.gold IS NULL) <> (c.prob_gold IS NULL)
    OR (c.gold IS NOT NULL AND NOT coalesce(abs(c.prob_gold - c.probabilities[c.gold + 1]) <= 1e-6, false))
