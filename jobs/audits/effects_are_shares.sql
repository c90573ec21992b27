-- name: effects_are_shares
-- description: Effects of triggers are shares, inside their intervals.
-- depends: trigger_effects
SELECT *
FROM trigger_effects
WHERE pattern NOT BETWEEN 0 AND 1
    OR control NOT BETWEEN 0 AND 1
    OR NOT (over_control BETWEEN ci_low - 1e-12 AND ci_high + 1e-12)
    OR n < 1
