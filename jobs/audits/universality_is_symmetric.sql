-- name: universality_is_symmetric
-- description: Correlations are the same in both directions, within -1 and 1, and 1 of a run with itself.
-- depends: head_universality
SELECT a.run_a, a.run_b, a.criterion, a.pearson, b.pearson AS pearson_back
FROM head_universality AS a
LEFT JOIN head_universality AS b ON b.run_a = a.run_b AND b.run_b = a.run_a AND b.criterion = a.criterion
WHERE b.run_a IS NULL
    OR abs(a.pearson - b.pearson) > 1e-9
    OR abs(a.pearson) > 1 + 1e-9
    OR abs(a.spearman) > 1 + 1e-9
    OR (a.run_a = a.run_b AND a.pearson <> 1)
