-- name: head_importance
-- description: Importance of every head by every criterion (paper, section 4.1): its mean over examples, with an interval
--   over examples.
-- grain: run_id, criterion, layer, head
-- materialized: table
-- depends: head_values, head_replicates
-- audits: importance_is_complete
-- param seed: integer = 0; Seed of every random choice.
-- column criterion: A criterion of head_values, or `random` (a control).
-- column importance: Mean of head_values.value, of `taylor_normalised` and `taylor_released` over the L2 norm of these means in the
--   layer; for `random` a number in [0, 1).
-- column n: Examples averaged over; 0 for `random`.
-- column ci_low: Lower end of the 95 % interval over examples: of the bootstrap-t interval and Student's, whichever is
--   lower. Of the accuracy difference Agresti and Min's interval, which has a width also where no answer changed; of the
--   criteria normalised by layer Student's with the replicates' spread. Null for `random`, and for a mean of one example.
--   Simulated: it holds the mean in 93 to 97 % of samples of 20 to 200 normal, exponential or skewed values (lognormal,
--   sigma 1); of very skewed ones (sigma 1.5) in 88 % of samples of 20, 91 % of 100, 94 % of 200.
-- column ci_high: Upper end of it.
WITH measured AS (
    SELECT
        v.run_id,
        v.criterion,
        v.layer,
        v.head,
        exact_sum(v.value) / count(*) AS mean,
        exact_deviation(v.value) / sqrt(count(*)) AS error,
        count(*) AS n,
        count(*) FILTER (v.value > 0) AS lost,
        count(*) FILTER (v.value < 0) AS gained
    FROM head_values AS v
    JOIN selected_runs USING (run_id)
    GROUP BY ALL
),
stated AS (
    SELECT
        *,
        if(
            is_by_layer(criterion),
            coalesce(
                mean / nullif(
                    sqrt(
                        sum(mean * mean) OVER (
                            PARTITION BY run_id, criterion, layer
                            ORDER BY head
                            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                        )
                    ),
                    0
                ),
                0
            ),
            mean
        ) AS importance
    FROM measured
),
replicates AS (
    SELECT
        r.run_id,
        r.criterion,
        r.layer,
        r.head,
        quantile_cont((r.importance - m.mean) / nullif(r.error, 0), 0.025) AS t_low,
        quantile_cont((r.importance - m.mean) / nullif(r.error, 0), 0.975) AS t_high,
        exact_deviation(r.importance) AS spread
    FROM head_replicates AS r
    JOIN measured AS m USING (run_id, criterion, layer, head)
    GROUP BY ALL
),
intervals AS (
    SELECT
        s.*,
        CASE
            WHEN is_by_layer(criterion) THEN student(n - 1) * r.spread * sqrt(n / nullif(n - 1, 0))
            WHEN criterion = 'accuracy_difference'
                THEN 1.959964e0 * sqrt(lost + gained + 1 - (lost - gained) ** 2 / (n + 2)) / (n + 2)
            ELSE student(n - 1) * s.error
        END AS half,
        if(criterion = 'accuracy_difference', mean * n / (n + 2), importance) AS centre,
        if(criterion = 'accuracy_difference', NULL, mean - r.t_high * s.error) AS t_below,
        if(criterion = 'accuracy_difference', NULL, mean - r.t_low * s.error) AS t_above
    FROM stated AS s
    LEFT JOIN replicates AS r USING (run_id, criterion, layer, head)
),
heads AS (
    SELECT run_id, unnest(range(n_layers))::SMALLINT AS layer, n_heads FROM selected_runs
),
control AS (
    SELECT run_id, layer, unnest(range(n_heads))::SMALLINT AS head FROM heads
)
SELECT
    run_id,
    criterion,
    layer,
    head,
    importance,
    n,
    if(n > 1, least(centre - half, t_below), NULL) AS ci_low,
    if(n > 1, greatest(centre + half, t_above), NULL) AS ci_high
FROM intervals
UNION ALL
SELECT run_id, 'random', layer, head, uniform(concat_ws('/', 'random', $seed, 0, layer, head)), 0, NULL, NULL
FROM control
