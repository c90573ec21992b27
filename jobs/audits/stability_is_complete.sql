-- name: stability_is_complete
-- description: Every head of a run has its place by each criterion, and each replicate has its top k.
-- depends: head_stability
SELECT s.run_id, s.criterion, count(*) AS heads, sum(s.in_top) AS in_top, any_value(r.n_layers * r.n_heads) AS expected
FROM head_stability AS s
JOIN runs AS r USING (run_id)
GROUP BY s.run_id, s.criterion
HAVING count(*) <> any_value(r.n_layers * r.n_heads)
    OR count(DISTINCT s.place) <> count(*)
    OR max(s.place) <> count(*) - 1
    OR abs(sum(s.in_top) - round(sum(s.in_top))) > 1e-9
    OR bool_or(s.in_top NOT BETWEEN 0 AND 1)
