-- name: example_words
-- description: Words of the example $example_id of the run $run_id: at the position of a word's first piece its pieces joined,
--   nothing at those of its other pieces; special tokens as they are. `known` is false in runs of an earlier release.
SELECT
    CASE
        WHEN t.word IS NULL THEN coalesce(v.token, t.token_id::VARCHAR)
        WHEN t.position = min(t.position) OVER of_word THEN
            string_agg(regexp_replace(coalesce(v.token, t.token_id::VARCHAR), '^(##|Ġ|▁)(.+)$', '\2'), '') OVER of_word
        ELSE ''
    END AS word,
    t.word IS NOT NULL OR t.segment IS NULL AS known
FROM tokens AS t
JOIN runs AS r USING (run_id)
LEFT JOIN vocabulary AS v ON v.tokenizer_key = r.tokenizer_key AND v.token_id = t.token_id
WHERE t.run_id = $run_id AND t.example_id = $example_id
WINDOW of_word AS (
    PARTITION BY t.segment, t.word ORDER BY t.position ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
)
ORDER BY t.position
