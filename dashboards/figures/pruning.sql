-- name: pruning
-- description: Accuracy on the evaluation rows after pruning the least important heads, by criterion. Bands: 95 % Wilson
--   intervals; of the random control the lowest and highest of its draws.
-- depends: pruning_curve
SELECT r.name AS run, p.criterion, p.fraction, p.n_pruned, p.accuracy, p.correct, p.n, p.ci_low, p.ci_high, p.draws
FROM pruning_curve AS p
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, p.run_id)
ORDER BY p.run_id, p.criterion, p.fraction
