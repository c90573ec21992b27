-- name: head_histogram
-- description: How many examples have a largest attribution of one head in each of 30 bins, by the class predicted.
WITH scores AS (
    SELECT s.attr_max, r.labels[p.predicted + 1] AS predicted
    FROM head_scores AS s
    JOIN predictions AS p USING (run_id, example_id)
    JOIN runs AS r USING (run_id)
    WHERE s.run_id = $run_id AND s.target = $class AND s.layer = $layer AND s.head = $head
        AND p.gold IS NOT DISTINCT FROM coalesce($gold, p.gold)
),
width AS (
    SELECT min(attr_max) AS smallest, greatest(max(attr_max) - min(attr_max), 1e-9) / 30 AS step FROM scores
)
SELECT smallest + step * bin AS low, smallest + step * (bin + 1) AS high, predicted, count(*) AS n
FROM (SELECT *, least(floor((attr_max - smallest) / step), 29) AS bin FROM scores, width)
GROUP BY ALL
ORDER BY ALL
