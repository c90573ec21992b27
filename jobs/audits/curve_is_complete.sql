-- name: curve_is_complete
-- description: Every pruning curve has its eleven points, counted from the same rows, with the accuracy inside its interval.
-- depends: pruning_curve
SELECT run_id, criterion, count(*) AS points
FROM pruning_curve
GROUP BY run_id, criterion
HAVING count(*) <> 11
    OR count(DISTINCT fraction) <> 11
    OR min(n) <> max(n)
    OR bool_or(accuracy < ci_low - 1e-12 OR accuracy > ci_high + 1e-12)
