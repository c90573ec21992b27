-- name: replicates_are_complete
-- description: Every head has as many bootstrap replicates as every other, each a number.
-- depends: head_replicates
WITH counts AS (
    SELECT run_id, criterion, layer, head, count(*) AS n, count(*) FILTER (isfinite(importance)) AS numbers
    FROM head_replicates
    GROUP BY ALL
)
SELECT *
FROM counts
WHERE n <> (SELECT max(n) FROM counts) OR numbers <> n
