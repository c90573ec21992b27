-- name: faithfulness_ends_are_fixed
-- description: Faithfulness is exactly 0 with no head kept and exactly 1 with all, and every curve has its eleven points.
-- depends: faithfulness_curve
SELECT run_id, criterion, measure, count(*) AS points, any_value(faithfulness) FILTER (kept = 0) AS of_none,
    any_value(faithfulness) FILTER (kept = 1) AS of_all
FROM faithfulness_curve
GROUP BY run_id, criterion, measure
HAVING count(*) <> 11
    OR any_value(faithfulness) FILTER (kept = 0) <> 0
    OR any_value(faithfulness) FILTER (kept = 1) <> 1
