-- name: effects_are_shares
-- description: Effects of triggers are shares, inside their intervals; their p follows from their rank among their twins,
--   and a correction makes none smaller.
-- depends: trigger_effects
SELECT *
FROM trigger_effects
WHERE inserted NOT BETWEEN 0 AND 1
    OR control NOT BETWEEN 0 AND 1
    OR NOT (over_control BETWEEN ci_low - 1e-12 AND ci_high + 1e-12)
    OR n < 1
    OR twins_as_strong NOT BETWEEN 0 AND draws
    OR abs(p - (1 + twins_as_strong) / (1 + draws)) > 1e-12
    OR p_adjusted NOT BETWEEN p - 1e-12 AND 1
