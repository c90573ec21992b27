-- name: drift
-- description: Accuracy of the runs of each task on rows with a gold label, in the order in which the runs were made. Bars:
--   95 % Wilson intervals.
-- depends: run_summary
SELECT
    r.task,
    r.name AS run,
    strftime(r.created_at, '%Y-%m-%d %H:%M:%S') AS made,
    s.accuracy,
    s.labelled AS n,
    wilson_low(s.correct, s.labelled) AS ci_low,
    wilson_high(s.correct, s.labelled) AS ci_high
FROM run_summary AS s
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, s.run_id) AND s.labelled > 0
ORDER BY r.task, r.created_at
