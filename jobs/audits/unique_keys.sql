-- name: unique_keys
-- description: Every key has one row; facts carry no index that would refuse a second one.
-- grain: table_name and the key
WITH
-- In the large tables, the groups are found first in which one bit for each head, layer or position gives fewer bits
-- than rows. Every duplicate is in such a group, and this takes a tenth of the memory of all keys at once.
suspicious_heads AS (
    SELECT run_id, example_id, layer
    FROM head_scores_dedup
    GROUP BY ALL
    HAVING count(*) FILTER (target <> 'predicted')
            > bit_count(bit_or(1::HUGEINT << (head % 126)) FILTER (target <> 'predicted'))
        OR count(*) FILTER (target <> 'gold') > bit_count(bit_or(1::HUGEINT << (head % 126)) FILTER (target <> 'gold'))
),
suspicious_layers AS (
    SELECT run_id, example_id
    FROM layer_scores_dedup
    GROUP BY ALL
    HAVING count(*) FILTER (target <> 'predicted')
            > bit_count(bit_or(1::HUGEINT << (layer % 126)) FILTER (target <> 'predicted'))
        OR count(*) FILTER (target <> 'gold') > bit_count(bit_or(1::HUGEINT << (layer % 126)) FILTER (target <> 'gold'))
),
suspicious_tokens AS (
    SELECT run_id, example_id, position // 126 AS stretch
    FROM tokens
    GROUP BY ALL
    HAVING count(*) > bit_count(bit_or(1::HUGEINT << (position % 126)))
)
SELECT 'predictions' AS table_name, run_id, example_id, count(*) AS n FROM predictions GROUP BY ALL HAVING n > 1
UNION ALL BY NAME
SELECT 'examples' AS table_name, run_id, example_id, count(*) AS n FROM examples GROUP BY ALL HAVING n > 1
UNION ALL BY NAME
SELECT 'target_scores' AS table_name, run_id, example_id, target, count(*) AS n
FROM target_scores
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'layer_scores' AS table_name, run_id, example_id, layer, target, count(*) AS n
FROM layer_scores
SEMI JOIN suspicious_layers USING (run_id, example_id)
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'head_scores' AS table_name, run_id, example_id, layer, head, target, count(*) AS n
FROM head_scores
SEMI JOIN suspicious_heads USING (run_id, example_id, layer)
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'tokens' AS table_name, run_id, example_id, position, count(*) AS n
FROM tokens
SEMI JOIN suspicious_tokens USING (run_id, example_id)
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'vocabulary' AS table_name, tokenizer_key, token_id, count(*) AS n FROM vocabulary GROUP BY ALL HAVING n > 1
UNION ALL BY NAME
SELECT 'attention_peaks' AS table_name, run_id, example_id, peak, count(*) AS n FROM attention_peaks GROUP BY ALL HAVING n > 1
UNION ALL BY NAME
SELECT 'masked_answers' AS table_name, run_id, job, example_id, criterion, direction, draw, step, layer, head, count(*) AS n
FROM masked_answers
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'attacked_answers' AS table_name, run_id, job, example_id, pattern, control, draw, count(*) AS n
FROM attacked_answers
GROUP BY ALL
HAVING n > 1
UNION ALL BY NAME
SELECT 'path_scores' AS table_name, run_id, job, example_id, criterion, layer, head, count(*) AS n
FROM path_scores
GROUP BY ALL
HAVING n > 1
