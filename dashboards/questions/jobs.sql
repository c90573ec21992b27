-- name: jobs
-- description: The latest attempt at each job; rows of runs that it was not for stay.
SELECT job, result, date_trunc('second', finished_at)::VARCHAR AS finished, rows, runs, params, error
FROM job_runs
QUALIFY row_number() OVER (PARTITION BY job ORDER BY job_run_id DESC) = 1
ORDER BY finished_at
