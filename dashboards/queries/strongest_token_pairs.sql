-- name: strongest_token_pairs
-- description: Tokens on the strongest edge of any head, by mean attribution, in more than two examples.
SELECT r.name AS run, e.query, e.key, count(DISTINCT e.example_id) AS examples, avg(e.attr) AS attribution
FROM edge_tokens AS e
JOIN runs AS r USING (run_id)
WHERE e.rank = 0 AND e.target = if(r.targets = 'predicted', 'predicted', 'gold')
GROUP BY r.name, e.query, e.key
HAVING examples > 2
ORDER BY attribution DESC
LIMIT 50
