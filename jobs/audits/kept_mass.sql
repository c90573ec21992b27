-- name: kept_mass
-- description: Shares of kept attribution lie between 0 and 1.
-- grain: table_name and the row
SELECT 'head_scores' AS table_name, run_id, example_id, layer, head, target, kept_mass
FROM head_scores_dedup
WHERE NOT kept_mass BETWEEN 0 AND 1 + 1e-4
UNION ALL BY NAME
SELECT 'layer_scores' AS table_name, run_id, example_id, layer, target, kept_mass
FROM layer_scores_dedup
WHERE NOT kept_mass BETWEEN 0 AND 1 + 1e-4
