-- name: quarantined
-- description: The latest examples that failed every attempt, and why.
SELECT run, pass, example_id, error, message, attempts
FROM quarantined
WHERE list_contains($runs, run_id)
ORDER BY failed_at DESC
LIMIT 500
