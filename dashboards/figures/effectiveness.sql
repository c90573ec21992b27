-- name: effectiveness
-- description: Accuracy with the k heads of every layer removed that the example itself ranks highest or lowest. The gold
--   label leaks in by design: keeping the heads that argue for it favours it. Bands: 95 % Wilson intervals.
-- depends: effectiveness
SELECT
    r.name AS run,
    r.name || ': ' || replace(e.direction, '_first', ' removed first') AS panel,
    e.criterion,
    e.direction,
    e.k,
    e.accuracy,
    e.correct,
    e.n,
    e.ci_low,
    e.ci_high
FROM effectiveness AS e
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, e.run_id)
ORDER BY e.run_id, e.criterion, e.direction, e.k
