-- name: area
-- description: Area under each pruning curve: the whole model's accuracy if pruning never cost an answer. Bars: 95 %
--   intervals over examples; of the random control the range of its draws. Over random: with an interval over random orders too.
--   By balanced accuracy and the gold probability: table `pruning_area`.
-- depends: pruning_area
SELECT r.name AS run, p.criterion, p.area, p.ci_low, p.ci_high, p.over_random, p.over_random_low, p.over_random_high
FROM pruning_area AS p
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, p.run_id) AND p.measure = 'accuracy'
ORDER BY p.run_id, p.criterion
