-- name: importance_is_complete
-- description: Every criterion has one importance for every head of a run, and an interval that is in order.
-- depends: head_importance
SELECT i.run_id, i.criterion, count(*) AS heads, any_value(r.n_layers * r.n_heads) AS expected
FROM head_importance AS i
JOIN runs AS r USING (run_id)
GROUP BY i.run_id, i.criterion
HAVING count(*) <> any_value(r.n_layers * r.n_heads)
    OR count(DISTINCT (layer, head)) <> count(*)
    OR bool_or(i.ci_low > i.ci_high)
    OR bool_or(NOT isfinite(i.importance))
