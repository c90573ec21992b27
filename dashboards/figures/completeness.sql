-- name: completeness
-- description: How exact the attributions are: the sum of a layer's attributions less (F(A) - F(0)), absolute, by layer,
--   of every attributed class. Bar: the middle 90 % of rows; tick: median; dot: the worst row; dashed: the run's tolerance.
-- depends: layer_scores_dedup
SELECT
    r.name AS run,
    s.layer,
    count(*) AS n,
    greatest(quantile_cont(abs(s.completeness_error), 0.05), 1e-9) AS low,
    greatest(quantile_cont(abs(s.completeness_error), 0.5), 1e-9) AS median,
    greatest(quantile_cont(abs(s.completeness_error), 0.95), 1e-9) AS high,
    greatest(max(abs(s.completeness_error)), 1e-9) AS worst,
    any_value(if(r.quadrature = 'adaptive', r.tolerance, NULL)) AS tolerance
FROM layer_scores_dedup AS s
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, s.run_id)
GROUP BY s.run_id, r.name, s.layer
ORDER BY s.run_id, s.layer
