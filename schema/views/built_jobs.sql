-- name: built_jobs
-- description: The latest successful build of every job. The job's table may also hold rows of other runs, made by an
--   earlier build (job_runs has them all).
-- grain: job
-- column job: The job that was built (jobs/sql).
-- column finished_at: When the build ended.
SELECT job, params, runs, rows, started_at, finished_at
FROM job_runs
WHERE result = 'built'
QUALIFY row_number() OVER (PARTITION BY job ORDER BY job_run_id DESC) = 1
