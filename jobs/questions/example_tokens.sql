-- name: example_tokens
-- description: Tokens of the example $example_id of the run $run_id in order, special ones included, with their segments.
SELECT coalesce(v.token, t.token_id::VARCHAR) AS token, t.segment
FROM tokens AS t
JOIN runs AS r USING (run_id)
LEFT JOIN vocabulary AS v ON v.tokenizer_key = r.tokenizer_key AND v.token_id = t.token_id
WHERE t.run_id = $run_id AND t.example_id = $example_id
ORDER BY t.position
