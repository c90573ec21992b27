-- name: layerwise_accuracy
-- description: Requests, for every example, the model's answers with the k heads of each layer removed that have the
--   largest or smallest attribution (or attention confidence) in this very example, for every k.
-- grain: run_id, example_id, criterion, direction, step
-- materialized: masked_answers
-- depends: splits, head_scores, mean_rows
-- target: gold
-- audits: clean_mask_is_prediction, masks_are_answered
-- param ablation: zero|mean = zero; What stands in place of a removed head's context: zero, or its mean over `mean_rows`.
-- column criterion: `attattr`, or `attention` (confidence).
-- column direction: `largest_first` or `smallest_first`: which heads are removed.
-- column step: k: heads removed in each layer.
WITH scored AS (
    SELECT h.run_id, h.example_id, h.layer, h.head, h.attr_max, h.attn_confidence, r.n_heads
    FROM head_scores AS h
    JOIN selected_runs AS r USING (run_id)
    SEMI JOIN (SELECT run_id, example_id FROM splits WHERE purpose = 'pruning') AS s
        ON s.run_id = h.run_id AND s.example_id = h.example_id
    WHERE h.target = 'gold'
),
criteria AS (
    SELECT *, 'attattr' AS criterion, attr_max AS value FROM scored
    UNION ALL
    SELECT *, 'attention', attn_confidence FROM scored
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
