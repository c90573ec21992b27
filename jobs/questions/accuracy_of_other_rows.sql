-- name: accuracy_of_other_rows
-- description: Accuracy of two runs over different rows, $run_a and $run_b, with Newcombe's interval of the difference, from
--   the two Wilson intervals.
WITH counted AS (
    SELECT run_id, count(*) AS n, count(*) FILTER (predicted = gold) AS correct
    FROM predictions
    WHERE gold IS NOT NULL
    GROUP BY run_id
),
shares AS (
    SELECT run_id, correct / n AS accuracy, wilson_low(correct, n) AS low, wilson_high(correct, n) AS high
    FROM counted
)
SELECT
    'accuracy' AS part,
    'unpaired' AS name,
    printf('%.6f', a.accuracy) AS a,
    printf('%.6f', b.accuracy) AS b,
    b.accuracy - a.accuracy AS value,
    value - sqrt((b.accuracy - b.low) ** 2 + (a.high - a.accuracy) ** 2) AS ci_low,
    value + sqrt((b.high - b.accuracy) ** 2 + (a.accuracy - a.low) ** 2) AS ci_high
FROM shares AS a
JOIN shares AS b ON a.run_id = $run_a AND b.run_id = $run_b
