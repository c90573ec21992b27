-- name: strongest_token_pairs
-- description: Pairs of tokens on the strongest edge of any head, in more than two examples: the eight of each run with the
--   largest mean attribution.
SELECT r.name AS run, e.query, e.key, count(DISTINCT e.example_id) AS examples, avg(e.attr)::DOUBLE AS attribution
FROM edge_tokens AS e
JOIN runs AS r USING (run_id)
WHERE e.rank = 0 AND e.target = if(r.targets = 'predicted', 'predicted', 'gold')
GROUP BY e.run_id, r.name, e.query, e.key
HAVING examples > 2
QUALIFY row_number() OVER (PARTITION BY e.run_id ORDER BY attribution DESC, e.query, e.key) <= 8
ORDER BY e.run_id, attribution DESC
