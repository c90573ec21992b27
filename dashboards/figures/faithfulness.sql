-- name: faithfulness
-- description: How faithful each criterion's ranking of heads is to what the heads do for the gold probability, on rows that
--   did not rank them. Left: area under the share of it that the k most important heads keep (CPR, larger is better). Right:
--   area between that share and 1 (CMD, smaller is better). Bars: 95 % intervals over examples; of the random control over
--   its draws too.
-- depends: faithfulness
WITH areas AS (
    SELECT run_id, criterion, 'CPR' AS area, cpr AS value, cpr_low AS ci_low, cpr_high AS ci_high, cpr_over_random AS over_random
    FROM faithfulness
    WHERE measure = 'prob_gold'
    UNION ALL
    SELECT run_id, criterion, 'CMD', cmd, cmd_low, cmd_high, cmd_over_random
    FROM faithfulness
    WHERE measure = 'prob_gold'
)
SELECT
    r.name AS run,
    r.name || ': ' || a.area AS panel,
    a.criterion,
    a.value,
    a.ci_low,
    a.ci_high,
    a.over_random,
    f.rank_agreement,
    f.n,
    f.ablation,
    f.note
FROM areas AS a
JOIN faithfulness AS f ON f.run_id = a.run_id AND f.criterion = a.criterion AND f.measure = 'prob_gold'
JOIN runs AS r ON r.run_id = a.run_id
WHERE list_contains($runs, a.run_id)
ORDER BY a.run_id, a.area DESC, a.criterion
