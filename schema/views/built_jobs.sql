-- name: built_jobs
-- description: The latest build of every job that did not fail. Its table may hold rows of other runs than these, made by an
--   earlier build (all are in job_runs).
-- grain: job
-- column job: The job that was built (jobs/sql).
SELECT job, params, runs, rows, started_at, finished_at
FROM job_runs
WHERE status = 'built'
QUALIFY row_number() OVER (PARTITION BY job ORDER BY job_run_id DESC) = 1
