-- name: board_matches_curve
-- description: CPR is the area under the curve's trapezoids, and either there are numbers or a note says why not.
-- depends: faithfulness, faithfulness_curve
WITH trapezoids AS (
    SELECT run_id, criterion, measure, sum(faithfulness * if(kept IN (0, 1), 0.05, 0.1)) AS area
    FROM faithfulness_curve
    GROUP BY ALL
)
SELECT b.run_id, b.criterion, b.measure, b.cpr, t.area AS expected, b.note
FROM faithfulness AS b
LEFT JOIN trapezoids AS t USING (run_id, criterion, measure)
WHERE (b.cpr IS NULL) <> (b.note IS NOT NULL)
    OR (b.cpr IS NOT NULL AND (t.area IS NULL OR abs(b.cpr - t.area) > 1e-9))
    OR b.cmd < 0
