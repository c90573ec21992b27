-- name: examples
-- description: Examples of a run that the filters let through. A null filter passes every row; any other, none without a
--   gold label.
SELECT
    p.example_id AS example,
    x.text_a,
    x.text_b,
    r.labels[p.gold + 1] AS gold,
    r.labels[p.predicted + 1] AS predicted,
    p.prob_predicted AS probability,
    p.n_tokens AS tokens
FROM predictions AS p
JOIN examples AS x USING (run_id, example_id)
JOIN runs AS r USING (run_id)
WHERE p.run_id = $run_id
    AND contains(lower(concat_ws(' ', x.text_a, x.text_b)), lower($text))
    AND p.gold IS NOT DISTINCT FROM coalesce($gold, p.gold)
    AND p.predicted = coalesce($predicted, p.predicted)
    AND (p.gold = p.predicted) IS NOT DISTINCT FROM coalesce($correct, p.gold = p.predicted)
ORDER BY p.example_id
LIMIT 200
