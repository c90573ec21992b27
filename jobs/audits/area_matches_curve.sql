-- name: area_matches_curve
-- description: The area under a pruning curve is that of its trapezoids.
-- depends: pruning_area, pruning_curve
WITH trapezoids AS (
    SELECT run_id, criterion, measure, sum(value * if(fraction IN (0, 1), 0.05, 0.1)) AS area
    FROM (UNPIVOT pruning_curve ON accuracy, balanced_accuracy, prob_gold INTO NAME measure VALUE value)
    GROUP BY run_id, criterion, measure
)
SELECT a.run_id, a.criterion, a.measure, a.area, t.area AS expected
FROM pruning_area AS a
LEFT JOIN trapezoids AS t USING (run_id, criterion, measure)
WHERE t.area IS NULL OR abs(a.area - t.area) > 1e-9
