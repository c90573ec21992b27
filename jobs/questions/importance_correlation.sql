-- name: importance_correlation
-- description: How alike the importance of heads is in the runs $run_a and $run_b, by criterion.
-- depends: head_universality
WITH pair AS (
    SELECT * FROM head_universality WHERE run_a = $run_a AND run_b = $run_b
)
SELECT
    'correlation' AS part,
    criterion || ' pearson' AS name,
    NULL AS a,
    NULL AS b,
    pearson AS value,
    ci_low,
    ci_high
FROM pair
UNION ALL
SELECT 'correlation', criterion || ' spearman', NULL, NULL, spearman, NULL, NULL
FROM pair
ORDER BY name
