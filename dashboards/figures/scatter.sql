-- name: scatter
-- description: Importance of each head in one run against another, for every pair of runs.
-- depends: head_importance, head_universality
SELECT
    a.criterion,
    ra.name AS run_a,
    rb.name AS run_b,
    ra.name || ' and ' || rb.name || ': ' || coalesce(printf('r = %.2f', u.pearson), 'r undefined') AS panel,
    a.layer,
    a.head,
    a.importance AS importance_a,
    b.importance AS importance_b,
    u.pearson
FROM head_universality AS u
JOIN head_importance AS a ON a.run_id = u.run_a AND a.criterion = u.criterion
JOIN head_importance AS b ON b.run_id = u.run_b AND b.criterion = u.criterion AND b.layer = a.layer AND b.head = a.head
JOIN runs AS ra ON ra.run_id = u.run_a
JOIN runs AS rb ON rb.run_id = u.run_b
WHERE u.run_a < u.run_b AND list_contains($runs, u.run_a) AND list_contains($runs, u.run_b)
ORDER BY a.criterion, u.run_a, u.run_b, a.layer, a.head
