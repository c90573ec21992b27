-- name: mistakes
-- description: Examples answered wrongly, the most certain first.
SELECT r.name AS run, p.example_id, x.text_a, x.text_b, r.labels[p.gold + 1] AS gold, r.labels[p.predicted + 1] AS predicted, p.prob_predicted
FROM predictions AS p
JOIN examples AS x USING (run_id, example_id)
JOIN runs AS r USING (run_id)
WHERE p.gold <> p.predicted
ORDER BY p.prob_predicted DESC
LIMIT 100
