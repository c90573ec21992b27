-- name: token_pairs
-- description: Pairs of tokens that interact across a whole dataset: over the stored edges of the predicted class, special
--   tokens and the diagonal left out.
-- grain: run_id, query_token, key_token, predicted
-- materialized: table
-- depends: edges, tokens, predictions, vocabulary
-- target: predicted
-- audits: pairs_have_support
-- param min_support: integer from 1 = 2; Examples that a pair must occur in.
-- column query_token: Token id of the attending token.
-- column key_token: Token id of the attended token.
-- column query: The attending token, as the tokenizer writes it.
-- column key: The attended token.
-- column predicted: Class that the pair argues for: the one predicted.
-- column support: Examples with such an edge.
-- column n_edges: Edges, all heads and layers together.
-- column mean_attr: Mean attribution of these edges.
-- column total_attr: Sum of it.
-- column share: Of the examples with this pair, of whatever predicted class, the share of this class.
WITH found AS (
    SELECT e.run_id, e.query_token, e.key_token, p.predicted, e.example_id, e.attr, r.tokenizer_key
    FROM edges AS e
    JOIN selected_runs AS r USING (run_id)
    JOIN predictions AS p USING (run_id, example_id)
    JOIN tokens AS q ON q.run_id = e.run_id AND q.example_id = e.example_id AND q.position = e.query_pos
    JOIN tokens AS k ON k.run_id = e.run_id AND k.example_id = e.example_id AND k.position = e.key_pos
    WHERE e.target = 'predicted'
        AND e.query_pos <> e.key_pos
        AND q.segment IS NOT NULL
        AND k.segment IS NOT NULL
),
pairs AS (
    SELECT
        run_id,
        tokenizer_key,
        query_token,
        key_token,
        predicted,
        count(DISTINCT example_id) AS support,
        count(*) AS n_edges,
        avg(attr) AS mean_attr,
        sum(attr) AS total_attr
    FROM found
    GROUP BY ALL
)
SELECT
    p.run_id,
    p.query_token,
    p.key_token,
    q.token AS query,
    k.token AS key,
    p.predicted,
    p.support,
    p.n_edges,
    p.mean_attr,
    p.total_attr,
    p.support / sum(p.support) OVER (PARTITION BY p.run_id, p.query_token, p.key_token) AS share
FROM pairs AS p
LEFT JOIN vocabulary AS q ON q.tokenizer_key = p.tokenizer_key AND q.token_id = p.query_token
LEFT JOIN vocabulary AS k ON k.tokenizer_key = p.tokenizer_key AND k.token_id = p.key_token
QUALIFY sum(p.support) OVER (PARTITION BY p.run_id, p.query_token, p.key_token) >= $min_support
