-- name: pruning_order
-- description: The order in which heads are pruned, least important first, by the importance on the ranking rows alone.
-- grain: run_id, criterion, rank
-- materialized: table
-- depends: head_values, splits
-- audits: pruning_order_is_permutation
-- param seed: integer = 0; Seed of every random choice.
-- column criterion: A criterion of head_values, or `random` (the first of its draws).
-- column rank: Place in the order, 0 = pruned first; equal importances go by layer and head.
-- column importance: Importance on the ranking rows (of `taylor_normalised` and `taylor_released` over the L2 norm of its layer's).
-- column ties: Heads with exactly this importance, this one included.
WITH measured AS (
    SELECT v.run_id, v.criterion, v.layer, v.head, exact_sum(v.value) / count(*) AS importance
    FROM head_values AS v
    JOIN selected_runs USING (run_id)
    JOIN splits AS s ON s.run_id = v.run_id AND s.example_id = v.example_id
    WHERE s.purpose = 'pruning' AND s.part = 'ranking'
    GROUP BY ALL
),
stated AS (
    SELECT
        * REPLACE (
            if(
                is_by_layer(criterion),
                coalesce(importance / nullif(sqrt(exact_sum(importance ** 2) OVER (PARTITION BY run_id, criterion, layer)), 0), 0),
                importance
            ) AS importance
        )
    FROM measured
),
control AS (
    SELECT run_id, 'random' AS criterion, layer, head, uniform(concat_ws('/', 'random', $seed, 0, layer, head)) AS importance
    FROM measured
    WHERE criterion = 'attattr'
)
SELECT
    run_id,
    criterion,
    (row_number() OVER (PARTITION BY run_id, criterion ORDER BY importance, layer, head) - 1)::SMALLINT AS rank,
    layer,
    head,
    importance,
    count(*) OVER (PARTITION BY run_id, criterion, importance) AS ties
FROM (FROM stated UNION ALL BY NAME FROM control)
