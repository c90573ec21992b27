-- name: trigger_patterns
-- description: From the selection rows; value: attribution of the two edges that gave the tokens.
SELECT
    r.name AS run,
    array_to_string(p.tokens, ' ') AS pattern,
    r.labels[p.predicted + 1] AS "argues for",
    p.value_1 + p.value_2 AS value,
    p.layer,
    p.head,
    p.pattern AS "source example",
    p.positions
FROM trigger_patterns AS p
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, p.run_id)
ORDER BY value DESC, p.pattern
LIMIT 500
