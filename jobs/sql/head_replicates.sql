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
-- column criterion: A criterion of head_values.
-- column replicate: Number of the replicate, from 0.
-- column importance: Mean of head_values.value over the replicate's examples; of `taylor_normalised` and `taylor_released` over the L2
--   norm of these means in the layer.
-- column error: Standard error of the mean as the replicate's examples tell it; null for `taylor_normalised` and `taylor_released`, and where
--   one cell alone is drawn, once.
WITH cells AS (
    SELECT
        v.run_id,
        r.task || '/' || r.split AS source,
        v.criterion,
        v.layer,
        v.head,
        v.example_id % $cells AS cell,
        exact_sum(v.value) AS total,
        count(*) AS n
    FROM head_values AS v
    JOIN selected_runs AS r USING (run_id)
    GROUP BY ALL
),
places AS (
    SELECT DISTINCT source, cell FROM cells
),
-- Lists have one entry for each cell of the source, in its order, so that a replicate is a few products of lists. That
-- is fast, and adds in one order however many threads there are.
drawn AS (
    SELECT
        source,
        replicate,
        list(
            poisson_weight(uniform(concat_ws('/', 'bootstrap', $seed, source, cell, replicate)))::DOUBLE ORDER BY cell
        ) AS weights
    FROM places
    CROSS JOIN (SELECT unnest(range($replicates)) AS replicate)
    GROUP BY ALL
),
means AS (
    SELECT
        run_id,
        source,
        criterion,
        layer,
        head,
        exact_sum(total) / sum(n) AS mean
    FROM cells
    GROUP BY ALL
),
-- Totals are less the mean of all, so that squares lose no digits.
lists AS (
    SELECT
        m.run_id,
        m.source,
        m.criterion,
        m.layer,
        m.head,
        m.mean,
        list(coalesce(c.total - m.mean * c.n, 0) ORDER BY p.cell) AS totals,
        list(coalesce(c.n, 0)::DOUBLE ORDER BY p.cell) AS counts,
        list((c.n IS NOT NULL)::DOUBLE ORDER BY p.cell) AS present
    FROM means AS m
    JOIN places AS p USING (source)
    LEFT JOIN cells AS c USING (run_id, source, criterion, layer, head, cell)
    GROUP BY ALL
),
products AS (
    SELECT
        *,
        list_transform(list_zip(totals, counts), lambda pair: pair[1] * pair[1]) AS totals_squared,
        list_transform(list_zip(totals, counts), lambda pair: pair[1] * pair[2]) AS totals_counts,
        list_transform(counts, lambda count: count * count) AS counts_squared
    FROM lists
),
sums AS (
    SELECT
        p.run_id,
        p.criterion,
        p.layer,
        p.head,
        d.replicate,
        p.mean,
        list_dot_product(d.weights, p.present) AS drawn,
        list_dot_product(d.weights, p.counts) AS n,
        list_dot_product(d.weights, p.totals) / nullif(list_dot_product(d.weights, p.counts), 0) AS shift,
        list_dot_product(d.weights, p.totals_squared) AS total_total,
        list_dot_product(d.weights, p.totals_counts) AS total_n,
        list_dot_product(d.weights, p.counts_squared) AS n_n
    FROM products AS p
    JOIN drawn AS d USING (source)
)
SELECT
    run_id,
    criterion,
    layer,
    head,
    replicate::SMALLINT AS replicate,
    if(
        is_by_layer(criterion),
        coalesce(
            (mean + shift) / nullif(
                sqrt(
                    sum((mean + shift) ** 2) OVER (
                        PARTITION BY run_id, criterion, layer, replicate
                        ORDER BY head
                        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
                    )
                ),
                0
            ),
            0
        ),
        mean + shift
    ) AS importance,
    if(
        is_by_layer(criterion),
        NULL,
        -- Of a ratio of sums over cells, whose means differ.
        sqrt(greatest(total_total - 2 * shift * total_n + shift * shift * n_n, 0) * drawn / nullif(drawn - 1, 0)) / n
    ) AS error
FROM sums
WHERE n > 0
