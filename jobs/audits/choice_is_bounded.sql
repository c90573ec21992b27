-- name: choice_is_bounded
-- description: A chosen pattern is one of those mined from its source, its effect a share, and places count from 0 without
--   a gap.
-- depends: trigger_choice, trigger_patterns
SELECT c.run_id, c.source, c.ranking, c.label, count(*) AS chosen, max(c.place) AS last
FROM trigger_choice AS c
LEFT JOIN trigger_patterns AS t USING (run_id, source, pattern)
GROUP BY c.run_id, c.source, c.ranking, c.label
HAVING max(c.place) <> count(*) - 1 OR count(t.pattern) <> count(*) OR bool_or(abs(c.over_control) > 1)
