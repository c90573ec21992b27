-- name: pruning_order_is_permutation
-- description: A pruning order names every head of the run once.
-- depends: pruning_order
SELECT o.run_id, o.criterion, count(*) AS heads, any_value(r.n_layers * r.n_heads) AS expected
FROM pruning_order AS o
JOIN runs AS r USING (run_id)
GROUP BY o.run_id, o.criterion
HAVING count(*) <> any_value(r.n_layers * r.n_heads)
    OR count(DISTINCT (layer, head)) <> count(*)
    OR count(DISTINCT rank) <> count(*)
    OR max(rank) <> count(*) - 1
