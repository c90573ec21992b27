-- name: head_examples
-- description: The examples in which one head's largest attribution is largest, with the edge that has it.
WITH strongest AS (
    SELECT s.*
    FROM head_scores AS s
    JOIN predictions AS p USING (run_id, example_id)
    WHERE s.run_id = $run_id AND s.target = $class AND s.layer = $layer AND s.head = $head
        AND p.gold IS NOT DISTINCT FROM coalesce($gold, p.gold)
    ORDER BY s.attr_max DESC, s.example_id
    LIMIT 20
)
SELECT
    s.example_id AS example,
    s.attr_max AS "max Attr",
    q.token AS query,
    k.token AS key,
    r.labels[p.predicted + 1] AS predicted,
    r.labels[p.gold + 1] AS gold,
    x.text_a,
    x.text_b
FROM strongest AS s
JOIN examples AS x USING (run_id, example_id)
JOIN predictions AS p USING (run_id, example_id)
JOIN runs AS r USING (run_id)
LEFT JOIN tokens AS tq
    ON tq.run_id = s.run_id AND tq.example_id = s.example_id AND tq.position = s.attr_max_query
LEFT JOIN tokens AS tk
    ON tk.run_id = s.run_id AND tk.example_id = s.example_id AND tk.position = s.attr_max_key
LEFT JOIN vocabulary AS q ON q.tokenizer_key = r.tokenizer_key AND q.token_id = tq.token_id
LEFT JOIN vocabulary AS k ON k.tokenizer_key = r.tokenizer_key AND k.token_id = tk.token_id
ORDER BY s.attr_max DESC, s.example_id
