-- name: replicates_are_complete
-- description: Within a run and criterion every head has as many bootstrap replicates as every other, each a number.
--   Runs may differ: of few examples a replicate may draw none.
-- depends: head_replicates
WITH counts AS (
    SELECT run_id, criterion, layer, head, count(*) AS n, count(*) FILTER (isfinite(importance)) AS numbers
    FROM head_replicates
    GROUP BY ALL
)
SELECT *
FROM counts
QUALIFY n <> max(n) OVER (PARTITION BY run_id, criterion) OR numbers <> n
