-- name: area_matches_curve
-- description: The area under a pruning curve is that of its trapezoids.
-- depends: pruning_area, pruning_curve
WITH trapezoids AS (
    SELECT run_id, criterion, sum(accuracy * if(fraction IN (0, 1), 0.05, 0.1)) AS area
    FROM pruning_curve
    GROUP BY run_id, criterion
)
SELECT a.run_id, a.criterion, a.area, t.area AS expected
FROM pruning_area AS a
LEFT JOIN trapezoids AS t USING (run_id, criterion)
WHERE t.area IS NULL OR abs(a.area - t.area) > 1e-9
