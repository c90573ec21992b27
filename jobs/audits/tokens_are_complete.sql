-- name: tokens_are_complete
-- description: An example has as many tokens as its prediction says, at positions from 0 without a gap.
-- grain: run_id, example_id
WITH counted AS (
    SELECT run_id, example_id, count(*) AS tokens, max(position) AS last FROM tokens GROUP BY ALL
)
SELECT p.run_id, p.example_id, p.n_tokens, t.tokens, t.last
FROM predictions AS p
LEFT JOIN counted AS t USING (run_id, example_id)
WHERE t.tokens IS DISTINCT FROM p.n_tokens OR t.last <> p.n_tokens - 1
