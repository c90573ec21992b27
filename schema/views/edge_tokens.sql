-- name: edge_tokens
-- description: The edges with their tokens written out, for reading. Filter on run_id and example_id; for
--   patterns over many rows use edges, whose token ids are faster.
-- grain: run_id, example_id, layer, head, target, rank
-- depends: edges
-- column attr: Attribution of the edge.
-- column target: Class attributed: `gold` or `predicted`.
-- column query: Token at query_pos, as the tokenizer writes it.
-- column key: Token at key_pos, as the tokenizer writes it.
SELECT
    e.run_id,
    e.example_id,
    e.layer,
    e.head,
    e.target,
    e.rank,
    e.query_pos,
    e.key_pos,
    q.token AS query,
    k.token AS key,
    e.attr,
    e.attn
FROM edges AS e
JOIN runs AS r USING (run_id)
LEFT JOIN vocabulary AS q ON q.tokenizer_key = r.tokenizer_key AND q.token_id = e.query_token
LEFT JOIN vocabulary AS k ON k.tokenizer_key = r.tokenizer_key AND k.token_id = e.key_token
