-- name: head_summary
-- description: Means of the head statistics over a run's examples, special tokens included.
-- grain: run_id, target, layer, head
-- depends: head_scores
-- column target: Class attributed: `gold` or `predicted`.
-- column n: Examples averaged over.
-- column attr_max: Mean of head_scores.attr_max: the head's ATTATTR importance for this target.
-- column attr_sum: Mean of head_scores.attr_sum.
-- column attn_max: Mean of head_scores.attn_max.
-- column attn_confidence: Mean of head_scores.attn_confidence.
-- column taylor: Mean of head_scores.taylor.
-- column taylor_released: Mean of head_scores.taylor_released; null in a run of an earlier release.
SELECT
    run_id,
    target,
    layer,
    head,
    count(*) AS n,
    avg(attr_max) AS attr_max,
    avg(attr_sum) AS attr_sum,
    avg(attn_max) AS attn_max,
    avg(attn_confidence) AS attn_confidence,
    avg(taylor) AS taylor,
    avg(taylor_released) AS taylor_released
FROM head_scores
GROUP BY run_id, target, layer, head
