-- name: pruned_accuracy
-- description: Requests the model's answers with the least important 0, 10, ..., 100 % of all heads removed, on the
--   evaluation rows.
-- grain: run_id, example_id, criterion, draw, step
-- materialized: masked_answers
-- depends: pruning_order, splits, mean_rows
-- audits: clean_mask_is_prediction, masks_are_answered
-- param draws: integer from 1 = 20; Random orders of the control. Masks that orders share (no head, every head) are computed once.
-- param seed: integer = 0; Seed of every random choice.
-- param ablation: zero|mean = zero; What stands in place of a removed head's context: zero, or its mean over `mean_rows`.
-- column criterion: Criterion of the pruning order.
-- column draw: Number of the random order; 0 for every other criterion.
-- column step: Tenths of all heads: int(step / 10 * heads) are removed.
WITH orders AS (
    SELECT run_id, criterion, 0 AS draw, rank, layer, head
    FROM pruning_order
    WHERE criterion <> 'random'
    UNION ALL
    SELECT
        run_id,
        'random',
        draw,
        row_number() OVER (
            PARTITION BY run_id, draw ORDER BY uniform(concat_ws('/', 'random', $seed, draw, layer, head)), layer, head
        ) - 1,
        layer,
        head
    FROM pruning_order
    CROSS JOIN (SELECT unnest(range($draws)) AS draw)
    WHERE criterion = 'random'
),
evaluated AS (
    SELECT run_id, list(example_id ORDER BY example_id) AS example_ids
    FROM splits
    WHERE purpose = 'pruning' AND part = 'evaluation'
    GROUP BY run_id
)
SELECT
    o.run_id,
    o.criterion,
    o.draw,
    step,
    any_value(e.example_ids) AS example_ids,
    any_value(m.mean_over) AS mean_over,
    coalesce(list(o.layer::INTEGER * r.n_heads + o.head ORDER BY o.layer, o.head) FILTER (o.rank < step * r.n_layers * r.n_heads // 10), [])
        AS heads
FROM orders AS o
JOIN selected_runs AS r USING (run_id)
JOIN evaluated AS e USING (run_id)
CROSS JOIN (SELECT unnest(range(11)) AS step)
LEFT JOIN mean_rows AS m ON m.run_id = o.run_id AND $ablation = 'mean' AND step = 0
GROUP BY o.run_id, o.criterion, o.draw, step
