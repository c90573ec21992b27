-- name: attacks_have_controls
-- description: Every example that a pattern was inserted into has one answer to it, and to each of its random controls, of
--   which there is at least one.
WITH answers AS (
    SELECT
        run_id,
        job,
        split_part(attack, '/', 1) AS pattern,
        example_id,
        count(*) FILTER (split_part(attack, '/', 2) = 'pattern') AS patterns,
        count(*) FILTER (split_part(attack, '/', 2) = 'control') AS controls
    FROM attack_outcomes
    WHERE job IN ('trigger_selection', 'trigger_report')
    GROUP BY ALL
)
SELECT *, max(controls) OVER (PARTITION BY run_id, job) AS controls_elsewhere
FROM answers
QUALIFY patterns <> 1 OR controls < 1 OR controls <> controls_elsewhere
