-- name: progress
-- description: How far each unfinished pass is.
SELECT run, kind, committed, quarantined, total, share, examples_per_second, last_commit
FROM progress
WHERE status <> 'sealed' AND list_contains($runs, run_id)
ORDER BY pass_id
