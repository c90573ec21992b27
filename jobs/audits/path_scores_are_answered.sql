-- name: path_scores_are_answered
-- description: Every example of a job has one row for every head by each criterion that the job requests, and no other.
-- grain: run_id, job, example_id
WITH criteria AS (
    SELECT run_id, job, count(DISTINCT criterion) AS criteria FROM path_scores GROUP BY ALL
),
answers AS (
    SELECT run_id, job, example_id, count(*) AS answers, count(DISTINCT (criterion, layer, head)) AS keys
    FROM path_scores
    GROUP BY ALL
)
SELECT a.run_id, a.job, a.example_id, a.answers, c.criteria * r.n_layers * r.n_heads AS expected
FROM answers AS a
JOIN criteria AS c USING (run_id, job)
JOIN runs AS r USING (run_id)
WHERE a.answers <> c.criteria * r.n_layers * r.n_heads OR a.keys <> a.answers
