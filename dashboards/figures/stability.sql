-- name: stability
-- description: How many examples it takes until the ten most important heads are settled: their overlap with the run's own,
--   by the number of examples (a large point: the run's own). Band: 95 % of bootstrap replicates, of `attattr`. Below the
--   run's own number the curve says how much of its answer fewer examples would have given.
-- depends: top_heads
SELECT
    r.name AS run,
    t.criterion,
    t.sample_size,
    t.is_own,
    t.jaccard,
    t.jaccard_low,
    t.jaccard_high,
    t.same,
    t.consensus
FROM top_heads AS t
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, t.run_id)
    AND t.criterion IN ('attattr', 'taylor', 'taylor_released', 'probability_difference', 'accuracy_difference', 'attention')
ORDER BY t.run_id, t.criterion, t.sample_size
