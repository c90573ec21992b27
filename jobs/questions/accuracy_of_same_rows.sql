-- name: accuracy_of_same_rows
-- description: Accuracy of two runs over the same rows, $run_a and $run_b, with Agresti and Min's interval of the paired
--   difference (half a row is added to each of the four outcomes); and how many of their answers differ.
WITH answers AS (
    SELECT
        (a.predicted = a.gold)::INTEGER AS correct_a,
        (b.predicted = b.gold)::INTEGER AS correct_b,
        (a.predicted <> b.predicted)::INTEGER AS changed
    FROM predictions AS a
    JOIN predictions AS b USING (example_id)
    WHERE a.run_id = $run_a AND b.run_id = $run_b
),
counted AS (
    SELECT
        avg(correct_a) AS accuracy_a,
        avg(correct_b) AS accuracy_b,
        count(*) FILTER (correct_b > correct_a) AS gained,
        count(*) FILTER (correct_b < correct_a) AS lost,
        count(correct_a) + 2 AS n,  -- rows with a label, and the two added
        sum(changed) AS changed,
        count(*) AS n_answers
    FROM answers
),
spread AS (
    SELECT *, 1.959964 * sqrt(gained + lost + 1 - (gained - lost) ** 2 / n) / n AS half FROM counted
)
SELECT
    'accuracy' AS part,
    'same rows' AS name,
    printf('%.6f', accuracy_a) AS a,
    printf('%.6f', accuracy_b) AS b,
    accuracy_b - accuracy_a AS value,
    greatest(-1, (gained - lost) / n - half) AS ci_low,
    least(1, (gained - lost) / n + half) AS ci_high
FROM spread
WHERE accuracy_a IS NOT NULL
UNION ALL
SELECT 'answers', 'changed', changed::VARCHAR, n_answers::VARCHAR, changed / n_answers, NULL, NULL
FROM spread
WHERE n_answers > 0
