-- name: layerwise_accuracy
-- description: Requests, for every example, the model's answers with the k heads of each layer removed that have the
--   largest or smallest attribution in this very example, for every k; and the same by rivals of attribution.
-- grain: run_id, example_id, criterion, direction, step
-- materialized: masked_answers
-- depends: splits, head_scores, mean_rows
-- target: gold
-- audits: clean_mask_is_prediction, masks_are_answered
-- param ablation: zero|mean = zero; What stands in place of a removed head's context: zero, or its mean over `mean_rows`.
-- column criterion: Of the gold class: `attattr` (largest attribution), `attattr_positive_sum` (sum of the positive ones),
--   `grad_attn` (gradient times attention, a single backward pass; not of runs of earlier releases). Of the predicted class,
--   where the run attributes it: `attattr_predicted`, `grad_attn_predicted`. Of none: `attention` (confidence).
-- column direction: `largest_first` or `smallest_first`: which heads are removed.
-- column step: k: heads removed in each layer.
WITH scored AS (
    SELECT
        h.run_id,
        h.example_id,
        h.layer,
        h.head,
        h.target,
        h.attr_max,
        h.attr_positive_sum,
        h.grad_attn,
        h.attn_confidence,
        r.n_heads
    FROM head_scores AS h
    JOIN selected_runs AS r USING (run_id)
    SEMI JOIN (SELECT run_id, example_id FROM splits WHERE purpose = 'pruning') AS s
        ON s.run_id = h.run_id AND s.example_id = h.example_id
),
criteria AS (
    SELECT
        run_id,
        example_id,
        layer,
        head,
        n_heads,
        if(target = 'gold', criterion, criterion || '_predicted') AS criterion,
        value
    FROM (
        UNPIVOT (
            SELECT
                run_id,
                example_id,
                layer,
                head,
                n_heads,
                target,
                attr_max AS attattr,
                attr_positive_sum AS attattr_positive_sum,
                grad_attn,
                attn_confidence AS attention
            FROM scored
        )
        ON attattr, attattr_positive_sum, grad_attn, attention
        INTO NAME criterion VALUE value
    )
    WHERE target = 'gold' OR criterion IN ('attattr', 'grad_attn')
),
ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id, example_id, criterion, layer ORDER BY value DESC, head) - 1 AS from_top,
        row_number() OVER (PARTITION BY run_id, example_id, criterion, layer ORDER BY value, head) - 1 AS from_bottom
    FROM criteria
),
directed AS (
    SELECT *, 'largest_first' AS direction, from_top AS place FROM ranked
    UNION ALL
    SELECT *, 'smallest_first', from_bottom FROM ranked
),
removed AS (
    SELECT
        run_id,
        example_id,
        criterion,
        direction,
        n_heads,
        list(struct_pack(number := layer::INTEGER * n_heads + head, place := place) ORDER BY layer, head) AS heads
    FROM directed
    GROUP BY ALL
)
SELECT
    r.run_id,
    criterion,
    direction,
    k AS step,
    [example_id] AS example_ids,
    m.mean_over,
    list_transform(list_filter(heads, lambda one: one.place < k), lambda one: one.number) AS heads
FROM (SELECT *, unnest(range(n_heads + 1)) AS k FROM removed) AS r
LEFT JOIN mean_rows AS m ON m.run_id = r.run_id AND $ablation = 'mean' AND k = 0 AND criterion = 'attattr'
