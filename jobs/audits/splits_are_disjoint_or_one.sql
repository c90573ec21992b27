-- name: splits_are_disjoint_or_one
-- description: The two parts of a run's rows share no row, or (variant `released`, pruning alone) all of them.
-- depends: splits
WITH shared AS (
    SELECT run_id, purpose, example_id, count(*) AS parts FROM splits GROUP BY ALL
)
SELECT run_id, purpose, min(parts) AS fewest, max(parts) AS most
FROM shared
GROUP BY run_id, purpose
HAVING min(parts) <> max(parts) OR max(parts) > if(purpose = 'pruning', 2, 1)
