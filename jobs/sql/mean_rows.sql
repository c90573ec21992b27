-- name: mean_rows
-- description: The rows of each run over whose real tokens the mean contexts of heads are taken, as a baseline of
--   attribution and in place of removed heads.
-- grain: run_id
-- materialized: view
-- depends: splits
-- column mean_over: The first 256 ranking rows of pruning, by example id (all, if there are fewer).
SELECT run_id, list(example_id::BIGINT ORDER BY example_id)[:256] AS mean_over
FROM splits
WHERE purpose = 'pruning' AND part = 'ranking'
GROUP BY run_id
