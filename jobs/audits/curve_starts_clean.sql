-- name: curve_starts_clean
-- description: With no head pruned the accuracy is the model's own on the evaluation rows that were answered (not
--   quarantined); every curve ends alike too.
-- depends: pruning_curve, splits
WITH own AS (
    SELECT s.run_id, count(*) AS n, count(*) FILTER (p.gold = p.predicted) AS correct
    FROM splits AS s
    JOIN predictions AS p USING (run_id, example_id)
    SEMI JOIN (SELECT run_id, example_id FROM masked_answers WHERE job = 'pruned_accuracy') AS m
        ON m.run_id = s.run_id AND m.example_id = s.example_id
    WHERE s.purpose = 'pruning' AND s.part = 'evaluation'
    GROUP BY s.run_id
)
SELECT c.run_id, c.criterion, c.fraction, c.accuracy, o.correct / o.n AS expected
FROM pruning_curve AS c
JOIN own AS o USING (run_id)
WHERE c.fraction = 0 AND abs(c.accuracy - o.correct / o.n) > 1e-12
UNION ALL
SELECT run_id, 'all', 1, min(accuracy), max(accuracy)
FROM pruning_curve
WHERE fraction = 1
GROUP BY run_id
HAVING max(accuracy) - min(accuracy) > 1e-12
