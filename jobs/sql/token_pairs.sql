-- name: token_pairs
-- description: Pairs of tokens that interact across a whole dataset: over the stored edges of the predicted class, special
--   tokens and the diagonal left out. On request pairs of words: an edge between two words of a head is the sum of the
--   stored edges between their pieces, those within one word left out; edges too weak to be stored are missing from it.
-- grain: run_id, query_token, key_token, query, key, predicted
-- materialized: table
-- depends: edges, tokens, predictions, vocabulary
-- target: predicted
-- audits: pairs_have_support
-- param min_support: integer from 1 = 2; Examples that a pair must occur in.
-- param units: pieces|words = pieces; What is paired: tokens, or whole words (no rows of runs of an earlier release).
-- column query_token: Token id of the attending token; null for words, which have none.
-- column key_token: Token id of the attended token; null for words.
-- column query: The attending token, as the tokenizer writes it; a word as its pieces joined, without `##`.
-- column key: The attended token or word.
-- column predicted: Class that the pair argues for: the one predicted.
-- column support: Examples with such an edge.
-- column n_edges: Edges, all heads and layers together; of words, pairs of words in a head.
-- column mean_attr: Mean attribution of these edges.
-- column total_attr: Sum of it.
-- column share: Of the examples with this pair, of whatever predicted class, the share of this class.
WITH words AS (
    FROM word_pieces($units)
),
of_pieces AS (
    SELECT
        e.run_id,
        e.query_token,
        e.key_token,
        qv.token AS query,
        kv.token AS key,
        p.predicted,
        e.example_id,
        e.attr
    FROM edges AS e
    JOIN selected_runs AS r USING (run_id)
    JOIN predictions AS p USING (run_id, example_id)
    JOIN tokens AS q ON q.run_id = e.run_id AND q.example_id = e.example_id AND q.position = e.query_pos
    JOIN tokens AS k ON k.run_id = e.run_id AND k.example_id = e.example_id AND k.position = e.key_pos
    LEFT JOIN vocabulary AS qv ON qv.tokenizer_key = r.tokenizer_key AND qv.token_id = e.query_token
    LEFT JOIN vocabulary AS kv ON kv.tokenizer_key = r.tokenizer_key AND kv.token_id = e.key_token
    WHERE e.target = 'predicted'
        AND e.query_pos <> e.key_pos
        AND q.segment IS NOT NULL
        AND k.segment IS NOT NULL
        AND $units = 'pieces'
),
of_words AS (
    SELECT
        e.run_id,
        NULL::INTEGER AS query_token,
        NULL::INTEGER AS key_token,
        q.word AS query,
        k.word AS key,
        p.predicted,
        e.example_id,
        sum(e.attr) AS attr
    FROM edges AS e
    SEMI JOIN selected_runs USING (run_id)
    JOIN predictions AS p USING (run_id, example_id)
    JOIN words AS q ON q.run_id = e.run_id AND q.example_id = e.example_id AND q.position = e.query_pos
    JOIN words AS k ON k.run_id = e.run_id AND k.example_id = e.example_id AND k.position = e.key_pos
    WHERE e.target = 'predicted' AND q.word_pos <> k.word_pos
    GROUP BY e.run_id, q.word, k.word, p.predicted, e.example_id, e.layer, e.head, q.word_pos, k.word_pos
),
pairs AS (
    SELECT
        run_id,
        query_token,
        key_token,
        query,
        key,
        predicted,
        count(DISTINCT example_id) AS support,
        count(*) AS n_edges,
        avg(attr) AS mean_attr,
        sum(attr) AS total_attr
    FROM (FROM of_pieces UNION ALL FROM of_words)
    GROUP BY ALL
)
SELECT *, support / sum(support) OVER (PARTITION BY run_id, query_token, key_token, query, key) AS share
FROM pairs
QUALIFY sum(support) OVER (PARTITION BY run_id, query_token, key_token, query, key) >= $min_support
