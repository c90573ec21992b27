-- name: trigger_attacks
-- description: control: means over random tokens at the same places. Believe the rows of part `report`.
SELECT
    r.name AS run,
    array_to_string(p.tokens, ' ') AS pattern,
    p.source,
    r.labels[a.gold + 1] AS "gold class",
    a.part,
    a.control,
    a.n,
    a.clean_correct / nullif(a.n, 0) AS "clean accuracy",
    a.correct / nullif(a.n, 0) AS accuracy,
    a.accuracy_low,
    a.accuracy_high,
    a.pushed / nullif(a.n, 0) AS pushed,
    a.push_low,
    a.push_high
FROM trigger_attacks AS a
JOIN trigger_patterns AS p USING (run_id, pattern)
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, a.run_id)
ORDER BY a.part, a.run_id, a.pattern, a.gold, a.control
LIMIT 2000
