-- name: run_summary
-- description: One row a run: how much is committed, how well the model does, how exact the numbers are.
-- grain: run_id
-- column n_examples: Examples of the run.
-- column status: `running`, or `sealed` once every example is committed or quarantined.
-- column layers_x_heads: Layers and heads of the model, for people.
-- column committed: Examples committed by the attribution pass.
-- column quarantined: Examples quarantined by it.
-- column labelled: Committed examples with a gold label.
-- column correct: Committed examples whose predicted label is the gold one.
-- column accuracy: correct / labelled; null without labels.
-- column truncated: Committed examples of which tokens were cut to fit the length limit.
-- column worst_completeness_error: Largest |completeness_error| of any example, layer and target.
-- column uncertified: Stored (example, layer, target) rows of an adaptive run that are not certified, or whose
--   completeness or path error exceeds its tolerance.
WITH answers AS (
    SELECT
        run_id,
        count(*) AS committed,
        count(gold) AS labelled,
        count(*) FILTER (gold = predicted) AS correct,
        count(*) FILTER (truncated) AS truncated
    FROM predictions
    GROUP BY run_id
),
errors AS (
    SELECT
        s.run_id,
        max(abs(s.completeness_error)) AS worst_completeness_error,
        count(*) FILTER (
            r.quadrature = 'adaptive'
            AND (NOT coalesce(s.certified, true) OR greatest(abs(s.completeness_error), s.path_error) > r.tolerance)
        ) AS uncertified
    FROM layer_scores_dedup AS s
    JOIN runs AS r USING (run_id)
    GROUP BY s.run_id
),
failed AS (
    SELECT f.run_id, count(*) AS quarantined
    FROM quarantine AS f
    JOIN passes AS p USING (pass_id)
    WHERE p.kind = 'attribute'
    GROUP BY f.run_id
)
SELECT
    r.run_id,
    r.name,
    r.task,
    r.split,
    r.model,
    r.n_layers || ' x ' || r.n_heads AS layers_x_heads,
    r.status,
    r.n_examples,
    coalesce(a.committed, 0) AS committed,
    coalesce(f.quarantined, 0) AS quarantined,
    coalesce(a.labelled, 0) AS labelled,
    coalesce(a.correct, 0) AS correct,
    a.correct / nullif(a.labelled, 0) AS accuracy,
    coalesce(a.truncated, 0) AS truncated,
    e.worst_completeness_error,
    coalesce(e.uncertified, 0) AS uncertified
FROM runs AS r
LEFT JOIN answers AS a USING (run_id)
LEFT JOIN errors AS e USING (run_id)
LEFT JOIN failed AS f USING (run_id)
