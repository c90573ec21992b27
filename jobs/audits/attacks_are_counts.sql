-- name: attacks_are_counts
-- description: Counts of an attack lie between 0 and the rows attacked, and a pattern and its control share their rows.
-- depends: trigger_attacks
SELECT run_id, pattern, gold, part, min(n) AS fewest, max(n) AS most, count(*) AS rows
FROM trigger_attacks
GROUP BY run_id, pattern, gold, part
HAVING min(n) <> max(n)
    OR min(clean_correct) <> max(clean_correct)
    OR min(correct) < 0
    OR max(correct) > max(n)
    OR min(pushed) < 0
    OR max(pushed) > max(n)
    OR max(truncated) > max(n)
