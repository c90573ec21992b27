-- name: trigger_patterns
-- description: From the selection rows; value: attribution, or attention, of the two edges that gave the tokens.
SELECT
    r.name AS run,
    array_to_string(p.tokens, ' ') AS pattern,
    p.source,
    r.labels[p.predicted + 1] AS "argues for",
    p.value_1 + coalesce(p.value_2, 0) AS value,
    p.layer,
    p.head,
    p.example_id AS "source example",
    p.positions
FROM trigger_patterns AS p
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, p.run_id)
ORDER BY p.source DESC, value DESC, p.pattern
LIMIT 500
