-- name: masks_are_answered
-- description: Every example that a job removes heads for has an answer to each of the job's sets of heads, and no other.
-- grain: run_id, job, example_id
-- No head and each one; every k of every criterion in two directions; eleven points of every curve.
WITH curves AS (
    SELECT DISTINCT run_id, job, criterion, draw
    FROM masked_answers
    WHERE job IN ('head_ablation', 'layerwise_accuracy', 'pruned_accuracy')
),
expected AS (
    SELECT
        m.run_id,
        m.job,
        CASE m.job
            WHEN 'head_ablation' THEN 1 + any_value(r.n_layers * r.n_heads)
            WHEN 'layerwise_accuracy' THEN 2 * count(*) * (1 + any_value(r.n_heads))
            ELSE 11 * count(*)
        END AS expected
    FROM curves AS m
    JOIN runs AS r USING (run_id)
    GROUP BY m.run_id, m.job
),
answers AS (
    SELECT run_id, job, example_id, count(*) AS answers FROM masked_answers GROUP BY ALL
)
SELECT run_id, job, example_id, answers, expected
FROM answers
JOIN expected USING (run_id, job)
WHERE answers <> expected
