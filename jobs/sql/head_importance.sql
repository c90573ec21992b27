-- name: head_importance
-- description: Importance of every head by five criteria (paper, section 4.1): its mean over examples, with a bootstrap
--   interval over examples.
-- grain: run_id, criterion, layer, head
-- materialized: table
-- depends: head_values, head_replicates
-- audits: importance_is_complete
-- param seed: integer = 0; Seed of every random choice.
-- column criterion: `attattr`, `taylor`, `accuracy_difference`, `attention` or `random` (a control).
-- column importance: Mean of head_values.value; for `random` a number in [0, 1).
-- column n: Examples averaged over; 0 for `random`.
-- column ci_low: Lower end of the 95 % interval (bootstrap over examples); null for `random`.
-- column ci_high: Upper end of it.
WITH measured AS (
    SELECT v.run_id, v.criterion, v.layer, v.head, avg(v.value) AS importance, count(*) AS n
    FROM head_values AS v
    JOIN selected_runs USING (run_id)
    GROUP BY ALL
),
intervals AS (
    SELECT
        run_id,
        criterion,
        layer,
        head,
        quantile_cont(importance, 0.025) AS ci_low,
        quantile_cont(importance, 0.975) AS ci_high
    FROM head_replicates
    GROUP BY ALL
),
heads AS (
    SELECT run_id, unnest(range(n_layers))::SMALLINT AS layer, n_heads FROM selected_runs
),
control AS (
    SELECT run_id, layer, unnest(range(n_heads))::SMALLINT AS head FROM heads
)
SELECT run_id, criterion, layer, head, importance, n, ci_low, ci_high
FROM measured
LEFT JOIN intervals USING (run_id, criterion, layer, head)
UNION ALL
SELECT run_id, 'random', layer, head, uniform(concat_ws('/', 'random', $seed, 0, layer, head)), 0, NULL, NULL
FROM control
