-- name: importance_moved
-- description: The $top heads whose importance (ATTATTR) differs most between the runs $run_a and $run_b, with bootstrap
--   intervals of the difference.
-- depends: head_importance, head_replicates
WITH importance AS (
    SELECT * FROM head_importance WHERE criterion = 'attattr'
),
moved AS (
    SELECT
        a.layer,
        a.head,
        quantile_cont(b.importance - a.importance, 0.025) AS ci_low,
        quantile_cont(b.importance - a.importance, 0.975) AS ci_high
    FROM head_replicates AS a
    JOIN head_replicates AS b USING (criterion, layer, head, replicate)
    WHERE a.criterion = 'attattr' AND a.run_id = $run_a AND b.run_id = $run_b
    GROUP BY ALL
)
SELECT
    'head' AS part,
    m.layer || '/' || m.head AS name,
    printf('%.6g', a.importance) AS a,
    printf('%.6g', b.importance) AS b,
    b.importance - a.importance AS value,
    m.ci_low,
    m.ci_high
FROM moved AS m
JOIN importance AS a ON a.run_id = $run_a AND a.layer = m.layer AND a.head = m.head
JOIN importance AS b ON b.run_id = $run_b AND b.layer = m.layer AND b.head = m.head
ORDER BY abs(b.importance - a.importance) DESC, m.layer, m.head
LIMIT $top
