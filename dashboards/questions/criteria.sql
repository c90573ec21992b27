-- name: criteria
-- description: Criteria by which `head_importance` ranks the heads of each of the runs.
SELECT criterion
FROM head_importance
WHERE list_contains($runs, run_id) AND criterion <> 'random'
GROUP BY criterion
HAVING count(DISTINCT run_id) = len($runs)
