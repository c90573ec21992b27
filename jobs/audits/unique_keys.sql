-- name: unique_keys
-- description: Every key has one row; facts carry no index that would refuse a second one.
-- grain: table_name and the key
-- Of head_scores only the layers in which a bit for every head gives fewer bits than rows are looked at: that is
-- so wherever a head comes twice, and takes a tenth of the memory that all keys at once would.
WITH suspicious AS (
    SELECT run_id, example_id, layer, target
    FROM head_scores
    GROUP BY ALL
    HAVING count(*) > bit_count(bit_or(1::HUGEINT << (head % 126)))
),
keys AS (
    SELECT 'predictions' AS table_name, run_id, example_id, NULL AS layer, NULL AS head, NULL AS target
    FROM predictions
    UNION ALL BY NAME
    SELECT 'examples' AS table_name, run_id, example_id FROM examples
    UNION ALL BY NAME
    SELECT 'target_scores' AS table_name, run_id, example_id, target FROM target_scores
    UNION ALL BY NAME
    SELECT 'layer_scores' AS table_name, run_id, example_id, layer, target FROM layer_scores
    UNION ALL BY NAME
    SELECT 'head_scores' AS table_name, run_id, example_id, layer, head, target
    FROM head_scores
    SEMI JOIN suspicious USING (run_id, example_id, layer, target)
)
SELECT table_name, run_id, example_id, layer, head, target, count(*) AS n
FROM keys
GROUP BY ALL
HAVING count(*) > 1
