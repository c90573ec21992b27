-- name: integrity
-- description: For every attribution pass, whether the facts are as many as the examples in the ledger call for. Which
--   examples they are of is for the audit ledger_and_facts (`attattr verify`).
-- grain: pass_id
-- depends: head_scores, layer_scores, target_scores
-- column run: Name of the run (runs.name).
-- column committed: Examples in the ledger.
-- column targets: Targets that every example must answer for (2 for a run with target `both`).
-- column predictions: Rows in predictions; expected: committed.
-- column target_rows: Rows in target_scores; expected: committed x targets.
-- column layer_rows: Rows in layer_scores; expected: committed x targets x n_layers.
-- column head_rows: Rows in head_scores; expected: committed x targets x n_layers x n_heads.
-- column head_rows_expected: What head_rows must be.
-- column unclaimed: Examples with a prediction that are not in the ledger; expected: 0.
-- column ok: Whether every figure is as expected.
WITH passes_of_runs AS (
    SELECT p.pass_id, r.*, if(r.target = 'both', 2, 1) AS targets
    FROM passes AS p
    JOIN runs AS r USING (run_id)
    WHERE p.kind = 'attribute'
),
in_ledger AS (SELECT pass_id, count(*) AS n FROM ledger GROUP BY pass_id),
in_predictions AS (SELECT run_id, count(*) AS n FROM predictions GROUP BY run_id),
in_targets AS (SELECT run_id, count(*) AS n FROM target_scores GROUP BY run_id),
in_layers AS (SELECT run_id, count(*) AS n FROM layer_scores GROUP BY run_id),
in_heads AS (SELECT run_id, count(*) AS n FROM head_scores GROUP BY run_id),
counts AS (
    SELECT
        p.pass_id,
        p.run_id,
        p.name AS run,
        p.targets,
        p.n_layers,
        p.n_heads,
        coalesce(l.n, 0) AS committed,
        coalesce(c.n, 0) AS predictions,
        coalesce(t.n, 0) AS target_rows,
        coalesce(y.n, 0) AS layer_rows,
        coalesce(h.n, 0) AS head_rows,
        coalesce(l.n, 0) * p.targets * p.n_layers * p.n_heads AS head_rows_expected
    FROM passes_of_runs AS p
    LEFT JOIN in_ledger AS l USING (pass_id)
    LEFT JOIN in_predictions AS c USING (run_id)
    LEFT JOIN in_targets AS t USING (run_id)
    LEFT JOIN in_layers AS y USING (run_id)
    LEFT JOIN in_heads AS h USING (run_id)
),
not_in_ledger AS (
    SELECT p.pass_id, count(*) AS n
    FROM passes_of_runs AS p
    JOIN predictions AS c USING (run_id)
    ANTI JOIN ledger AS l ON l.pass_id = p.pass_id AND l.example_id = c.example_id
    GROUP BY p.pass_id
)
SELECT
    pass_id,
    run_id,
    run,
    committed,
    targets,
    predictions,
    target_rows,
    layer_rows,
    head_rows,
    head_rows_expected,
    coalesce(n, 0) AS unclaimed,
    predictions = committed
        AND target_rows = committed * targets
        AND layer_rows = committed * targets * n_layers
        AND head_rows = head_rows_expected
        AND coalesce(n, 0) = 0 AS ok
FROM counts
LEFT JOIN not_in_ledger USING (pass_id)
