-- name: summary
-- description: What each run came to: how much is committed, how well the model does, how exact the numbers are.
SELECT
    name AS run,
    task,
    split,
    model,
    layers_x_heads AS "layers x heads",
    status,
    n_examples AS examples,
    committed,
    quarantined,
    accuracy,
    worst_completeness_error AS "largest completeness error",
    uncertified,
    truncated,
    labelled
FROM run_summary
WHERE list_contains($runs, run_id)
ORDER BY run_id
