-- name: f_full_is_probability
-- description: F(A) of every layer is the probability that the model gives the attributed class.
-- grain: run_id, example_id, layer, target
SELECT s.run_id, s.example_id, s.layer, s.target, s.f_full, t.label, c.probabilities
FROM layer_scores_dedup AS s
JOIN target_scores_dedup AS t USING (run_id, example_id, target)
JOIN predictions AS c USING (run_id, example_id)
JOIN runs AS r USING (run_id)
WHERE NOT coalesce(
    abs(s.f_full - c.probabilities[t.label + 1]) <= CASE r.dtype WHEN 'float32' THEN 1e-3 ELSE 5e-2 END,
    false
)
