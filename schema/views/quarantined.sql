-- name: quarantined
-- description: Examples that failed every attempt of a pass, and why; `--retry-errors` tries them again.
-- grain: pass_id, example_id
-- column run: Name of the run (runs.name).
-- column error: Name of the error.
-- column pass: Kind of the pass: `attribute`, `masked_answers`, `attacked_answers` or `path_scores`.
SELECT
    q.pass_id,
    q.run_id,
    r.name AS run,
    p.kind AS pass,
    q.example_id,
    q.error,
    q.message,
    q.attempts,
    q.failed_at
FROM quarantine AS q
JOIN passes AS p USING (pass_id)
JOIN runs AS r ON r.run_id = q.run_id
