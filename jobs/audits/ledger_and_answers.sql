-- name: ledger_and_answers
-- description: Every example in the ledger of a pass that a job requested has answers, and no other example has any.
-- grain: run_id, job, example_id
WITH committed AS (
    SELECT l.run_id, p.settings::JSON ->> '$.job' AS job, p.kind, l.example_id
    FROM ledger AS l
    JOIN passes AS p USING (pass_id)
    WHERE p.kind <> 'attribute'
),
answered AS (
    SELECT run_id, job, 'masked_answers' AS kind, example_id, count(*) AS answers FROM masked_answers GROUP BY ALL
    UNION ALL BY NAME
    SELECT run_id, job, 'attacked_answers' AS kind, example_id, count(*) AS answers FROM attacked_answers GROUP BY ALL
    UNION ALL BY NAME
    SELECT run_id, job, 'path_scores' AS kind, example_id, count(*) AS answers FROM path_scores GROUP BY ALL
)
SELECT run_id, job, kind, example_id, c.run_id IS NOT NULL AS in_ledger, coalesce(a.answers, 0) AS answers
FROM committed AS c
FULL JOIN answered AS a USING (run_id, job, kind, example_id)
WHERE c.run_id IS NULL OR a.run_id IS NULL
