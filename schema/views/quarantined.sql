-- name: quarantined
-- description: Examples that failed every attempt of a pass, and why; `--retry-errors` tries them again.
-- grain: pass_id, example_id
-- column run: Name of the run (runs.name).
-- column kind: Name of the error.
-- column pass: Kind of the pass: `attribute`, `masked_accuracy` or `attack`.
SELECT
    f.pass_id,
    f.run_id,
    r.name AS run,
    p.kind AS pass,
    f.example_id,
    f.kind,
    f.message,
    f.attempts,
    f.failed_at
FROM failures AS f
JOIN passes AS p USING (pass_id)
JOIN runs AS r ON r.run_id = f.run_id
