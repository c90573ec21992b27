-- name: importance_is_complete
-- description: Every criterion has one importance for every head of a run, and an interval that is in order. No criterion is
--   missing but the differences of accuracy and probability, where no head was removed, those of other paths, where none was
--   requested, and all but `random` of a run without attributed examples.
-- depends: head_importance
WITH expected AS (
    SELECT run_id, unnest(['attattr', 'attattr_positive_sum', 'attattr_absolute_sum', 'taylor', 'taylor_normalised', 'attention']) AS criterion
    FROM (SELECT DISTINCT run_id FROM head_importance SEMI JOIN target_scores USING (run_id))
    UNION ALL
    SELECT DISTINCT run_id, 'random'
    FROM head_importance
    UNION ALL
    SELECT DISTINCT run_id, unnest(['accuracy_difference', 'probability_difference'])
    FROM masked_answers
    SEMI JOIN head_importance USING (run_id)
    WHERE job = 'head_ablation'
    UNION ALL
    SELECT DISTINCT run_id, criterion
    FROM path_scores
    SEMI JOIN head_importance USING (run_id)
)
SELECT run_id, criterion, 0 AS heads, r.n_layers * r.n_heads AS expected
FROM expected
JOIN runs AS r USING (run_id)
ANTI JOIN head_importance USING (run_id, criterion)
UNION ALL
SELECT i.run_id, i.criterion, count(*) AS heads, any_value(r.n_layers * r.n_heads) AS expected
FROM head_importance AS i
JOIN runs AS r USING (run_id)
GROUP BY i.run_id, i.criterion
HAVING count(*) <> any_value(r.n_layers * r.n_heads)
    OR count(DISTINCT (layer, head)) <> count(*)
    OR bool_or(NOT i.importance BETWEEN i.ci_low - 1e-12 AND i.ci_high + 1e-12)
    OR bool_or(NOT isfinite(i.importance))
