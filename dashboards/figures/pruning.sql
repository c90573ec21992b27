-- name: pruning
-- description: Accuracy on the evaluation rows after pruning the least important heads, by criterion. Bands: 95 % Wilson
--   intervals; of the random control the lowest and highest of its draws. Dotted: always answering the most frequent class.
--   Of the criteria, those that the paper and its code compare; the areas below are of all.
-- depends: pruning_curve
SELECT r.name AS run, p.criterion, p.fraction, p.n_pruned, p.accuracy, p.correct, p.n, p.ci_low, p.ci_high, p.balanced_accuracy, p.prob_gold, p.majority, p.draws
FROM pruning_curve AS p
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, p.run_id)
    AND p.criterion IN (
        'attattr', 'taylor', 'taylor_normalised', 'taylor_released', 'accuracy_difference', 'attention', 'random'
    )
ORDER BY p.run_id, p.criterion, p.fraction
