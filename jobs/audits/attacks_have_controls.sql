-- name: attacks_have_controls
-- description: Every example that a pattern was inserted into has one answer to it, and to each of its random controls, of
--   which there is at least one.
WITH answers AS (
    SELECT
        run_id,
        job,
        pattern,
        example_id,
        count(*) FILTER (NOT control) AS patterns,
        count(*) FILTER (control) AS controls
    FROM attacked_answers
    WHERE job IN ('trigger_selection', 'trigger_report')
    GROUP BY ALL
)
SELECT *, max(controls) OVER (PARTITION BY run_id, job) AS controls_elsewhere
FROM answers
QUALIFY patterns <> 1 OR controls < 1 OR controls <> controls_elsewhere
