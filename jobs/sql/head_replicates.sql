-- name: head_replicates
-- description: Head importance in bootstrap replicates over examples. Runs of one split are resampled alike, so that
--   their differences are paired. Examples are drawn in cells (example_id modulo `cells`), which keeps the cost the same
--   for any number of examples; with fewer examples than cells each is a cell of its own.
-- grain: run_id, criterion, layer, head, replicate
-- materialized: table
-- depends: head_values
-- audits: replicates_are_complete
-- param replicates: integer from 1 to 30000 = 400; Bootstrap replicates.
-- param cells: integer from 1 = 500; Cells that examples are drawn in.
-- param seed: integer = 0; Seed of every random choice.
-- column criterion: `attattr`, `taylor`, `taylor_normalised`, `taylor_released`, `attention` or `accuracy_difference`.
-- column replicate: Number of the replicate, from 0.
-- column importance: Mean of head_values.value over the replicate's examples; of the last two Taylor criteria over the L2
--   norm of these means in the layer.
-- column error: Standard error of the mean as the replicate's examples tell it; null for these two, and where
--   one cell alone is drawn, once.
WITH cells AS (
    SELECT
        v.run_id,
        r.task || '/' || r.split AS source,
        v.criterion,
        v.layer,
        v.head,
        v.example_id % $cells AS cell,
        sum(v.value) AS total,
        count(*) AS n
    FROM head_values AS v
    JOIN selected_runs AS r USING (run_id)
    GROUP BY ALL
),
drawn AS (
    SELECT
        source,
        cell,
        replicate,
        poisson_weight(uniform(concat_ws('/', 'bootstrap', $seed, source, cell, replicate))) AS weight
    FROM (SELECT DISTINCT source, cell FROM cells)
    CROSS JOIN (SELECT unnest(range($replicates)) AS replicate)
),
sums AS (
    SELECT
        run_id,
        criterion,
        layer,
        head,
        replicate,
        sum(weight * total) / sum(weight * n) AS mean,
        sum(weight) AS drawn,
        sum(weight * n) AS n,
        sum(weight * total * total) AS total_total,
        sum(weight * total * n) AS total_n,
        sum(weight * n * n) AS n_n
    FROM cells
    JOIN drawn USING (source, cell)
    WHERE weight > 0
    GROUP BY ALL
)
SELECT
    run_id,
    criterion,
    layer,
    head,
    replicate::SMALLINT AS replicate,
    if(
        is_by_layer(criterion),
        coalesce(mean / nullif(sqrt(sum(mean * mean) OVER (PARTITION BY run_id, criterion, layer, replicate)), 0), 0),
        mean
    ) AS importance,
    if(
        is_by_layer(criterion),
        NULL,
        -- Of a ratio of sums over cells, whose means differ.
        sqrt(greatest(total_total - 2 * mean * total_n + mean * mean * n_n, 0) * drawn / nullif(drawn - 1, 0)) / n
    ) AS error
FROM sums
