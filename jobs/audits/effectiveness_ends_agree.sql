-- name: effectiveness_ends_agree
-- description: With no head or every head removed, criterion and direction make no difference; every k is there, and all
--   are counted from the same rows.
-- depends: effectiveness
WITH counted AS (
    SELECT
        *,
        max(n) OVER (PARTITION BY run_id) AS answered,
        count(DISTINCT criterion) OVER (PARTITION BY run_id) AS criteria
    FROM effectiveness
)
SELECT e.run_id, e.k, min(e.correct) AS fewest, max(e.correct) AS most, count(*) AS rows, min(e.n) AS fewest_answered
FROM counted AS e
JOIN runs AS r USING (run_id)
GROUP BY e.run_id, e.k
HAVING (e.k IN (0, any_value(r.n_heads)) AND min(e.correct) <> max(e.correct))
    OR count(*) <> 2 * any_value(e.criteria)
    OR min(e.n) <> any_value(e.answered)
