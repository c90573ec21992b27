-- name: path_scores_are_complete
-- description: Certified attribution along another path adds up to F(A) - F(baseline) within 1e-3, where its criterion
--   promises that, and so does its path error; its columns are those of its criterion.
-- grain: run_id, job, example_id, criterion, layer, head
WITH summed AS (
    SELECT
        *,
        if(criterion = 'attattr_head', attr_sum, sum(attr_sum) OVER (PARTITION BY run_id, job, example_id, criterion, layer))
            AS total
    FROM path_scores
)
SELECT run_id, job, example_id, criterion, layer, head, total, f_full, f_zero, completeness_error, path_error, nodes, certified
FROM summed
WHERE criterion NOT IN ('attattr_uniform', 'attattr_mean', 'attattr_head', 'attattr_idg')
    OR (completeness_error IS NULL) <> (criterion = 'attattr_idg')
    OR (attr_max IS NULL) <> (criterion = 'attattr_mean')
    OR (attr_positive_sum IS NULL) <> (criterion = 'attattr_mean')
    OR abs(total - (f_full - f_zero) - completeness_error) > 1e-4
    OR (certified AND (path_error > 1e-3 OR abs(completeness_error) > 1e-3))
