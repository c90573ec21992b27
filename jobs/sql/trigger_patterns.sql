-- name: trigger_patterns
-- description: Trigger patterns mined from the selection rows (paper, section 6): the tokens of the two strongest
--   attribution edges of the single head with the largest attribution of the predicted class; and, as a baseline, those of
--   the two largest attention weights of the head that has the largest. On request these tokens' whole words.
-- grain: run_id, pattern
-- materialized: table
-- depends: head_scores, attention_peaks, splits, tokens, vocabulary, predictions
-- target: predicted
-- audits: patterns_have_words
-- param min_value: number from 0 = 0.02; Patterns of `attribution` whose two edges sum to less are dropped.
-- param min_tokens: integer from 0 = 0; Shorter examples yield no pattern (the paper's code: 15 for SST-2).
-- param sources: both|attribution = both; Whether patterns are mined by attention too; they double the attacks of trigger_selection and trigger_report.
-- param units: pieces|words = pieces; What is inserted: the edges' tokens, or all pieces of their words, together (no rows of runs of an earlier release).
-- column pattern: The pattern: of `attribution` the number of the example that it was mined from, of `attention` this number
--   and 1,000,000,000.
-- column source: Mined by `attribution` or by `attention`. Attention has peaks between tokens of the texts alone; runs of an
--   earlier release have none.
-- column example_id: Example that it was mined from.
-- column layer: Layer of the head.
-- column head: The head.
-- column token_ids: Ids of the tokens to insert, by position.
-- column tokens: The same as the tokenizer writes them.
-- column positions: Their positions in the source example.
-- column segments: Text each is from: 0 or 1.
-- column ratios: Place of each within its text: its number among the text's tokens, from 1, over their count; of
--   words that of the first piece, for every piece.
-- column first_sep: Position of the first special token after the first text.
-- column n_tokens: Tokens of the source example.
-- column value_1: Attribution of the strongest edge, or its attention weight.
-- column value_2: The same of the second strongest; its tokens are used if it is at least a fifth of value_1.
-- column predicted: Class that the pattern argues for.
-- column gold: Gold label of the source example.
WITH sources AS (
    -- Without attributions of the predicted class there is nothing to compare attention with.
    SELECT s.run_id, s.example_id
    FROM splits AS s
    JOIN selected_runs AS r USING (run_id)
    WHERE s.purpose = 'triggers' AND s.part = 'selection' AND r.targets IS DISTINCT FROM 'gold'
),
heads AS (
    SELECT h.*
    FROM head_scores AS h
    SEMI JOIN sources USING (run_id, example_id)
    WHERE h.target = 'predicted'
    QUALIFY row_number() OVER (PARTITION BY h.run_id, h.example_id ORDER BY h.attr_max DESC, h.layer, h.head) = 1
),
edge_pairs AS (
    SELECT
        'attribution' AS source,
        example_id AS pattern,
        run_id,
        example_id,
        layer,
        head,
        attr_max AS value_1,
        attr_second AS value_2,
        [attr_max_query, attr_max_key] AS first_edge,
        if(attr_second_query IS NULL, [], [attr_second_query, attr_second_key]) AS second_edge
    FROM heads
    WHERE attr_max_query IS NOT NULL AND attr_max + attr_second >= $min_value
    UNION ALL
    SELECT
        'attention',
        one.example_id + 1000000000,
        one.run_id,
        one.example_id,
        one.layer,
        one.head,
        one.attn,
        two.attn,
        [one.query_pos, one.key_pos],
        [two.query_pos, two.key_pos]
    FROM attention_peaks AS one
    LEFT JOIN attention_peaks AS two ON two.run_id = one.run_id AND two.example_id = one.example_id AND two.peak = 1
    SEMI JOIN sources ON sources.run_id = one.run_id AND sources.example_id = one.example_id
    WHERE one.peak = 0 AND $sources = 'both'
),
strong AS (
    SELECT *, first_edge || if(value_2 >= 0.2 * value_1, second_edge, []) AS places FROM edge_pairs
),
words AS (
    FROM word_pieces($units)
),
placed AS (
    SELECT
        t.run_id,
        t.example_id,
        t.position,
        coalesce(w.word_pos, t.position) AS word_pos,
        t.token_id,
        t.segment,
        row_number() OVER (PARTITION BY t.run_id, t.example_id, t.segment ORDER BY t.position)
            / count(*) OVER (PARTITION BY t.run_id, t.example_id, t.segment) AS ratio,
        min(t.position) FILTER (t.segment IS NULL AND t.position > 0) OVER (PARTITION BY t.run_id, t.example_id) AS first_sep
    FROM tokens AS t
    SEMI JOIN strong AS s ON s.run_id = t.run_id AND s.example_id = t.example_id
    LEFT JOIN words AS w ON w.run_id = t.run_id AND w.example_id = t.example_id AND w.position = t.position
    WHERE $units = 'pieces' OR t.run_id IN (SELECT run_id FROM words)
),
-- Every piece of a word that an edge touches.
wanted AS (
    SELECT t.* REPLACE (first_value(t.ratio) OVER (PARTITION BY t.run_id, t.example_id, t.word_pos ORDER BY t.position) AS ratio), s.pattern
    FROM placed AS t
    JOIN (
        SELECT DISTINCT s.run_id, s.example_id, s.pattern, t.word_pos
        FROM (SELECT run_id, example_id, pattern, unnest(places) AS position FROM strong) AS s
        JOIN placed AS t USING (run_id, example_id, position)
    ) AS s USING (run_id, example_id, word_pos)
)
SELECT
    s.run_id,
    s.pattern,
    s.source,
    s.example_id,
    s.layer,
    s.head,
    list(t.token_id ORDER BY t.position) AS token_ids,
    list(v.token ORDER BY t.position) AS tokens,
    list(t.position ORDER BY t.position) AS positions,
    list(t.segment ORDER BY t.position) AS segments,
    list(t.ratio ORDER BY t.position) AS ratios,
    any_value(t.first_sep) AS first_sep,
    any_value(p.n_tokens) AS n_tokens,
    s.value_1,
    s.value_2,
    any_value(p.predicted) AS predicted,
    any_value(p.gold) AS gold
FROM strong AS s
JOIN wanted AS t ON t.run_id = s.run_id AND t.pattern = s.pattern
JOIN predictions AS p ON p.run_id = s.run_id AND p.example_id = s.example_id
JOIN selected_runs AS r ON r.run_id = s.run_id
LEFT JOIN vocabulary AS v ON v.tokenizer_key = r.tokenizer_key AND v.token_id = t.token_id
WHERE t.segment IS NOT NULL AND p.n_tokens >= $min_tokens
GROUP BY s.run_id, s.pattern, s.source, s.example_id, s.layer, s.head, s.value_1, s.value_2
