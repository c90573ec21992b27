-- name: universality_summary
-- description: Do tasks share heads more than seeds of one task do? The likeness of head importance by what differs, with
--   its ceiling (two halves of one run, two seeds of one task) and its floor (heads permuted within their layers).
-- grain: criterion, compared
-- materialized: view
-- depends: head_universality
-- column criterion: Criterion of importance.
-- column compared: `halves` of one run, `checkpoint` (the same rows, another model: seeds), `data` (other rows: tasks),
--   `settings`, or `permuted` (pairs of tasks, the heads of one permuted within each layer).
-- column pairs: Pairs of runs, or runs for `halves`.
-- column pearson: Mean correlation of importances.
-- column corrected: The same without the noise of the examples (head_universality.corrected); of halves it would be 1.
-- column ci_low: Lower end of the 95 % interval of corrected over examples: as wide as those of single pairs are on average.
-- column ci_high: Upper end of it.
-- column lowest: Smallest pearson of a pair.
-- column highest: Largest.
WITH pairs AS (
    SELECT * FROM head_universality WHERE run_a < run_b AND pearson IS NOT NULL
),
compared AS (
    SELECT criterion, pair AS compared, pearson, corrected, (ci_high - ci_low) / 2 AS half FROM pairs
    UNION ALL
    SELECT criterion, 'halves', halves_a, NULL, NULL FROM head_universality WHERE run_a = run_b AND halves_a IS NOT NULL
    UNION ALL
    SELECT criterion, 'permuted', by_layer, NULL, NULL FROM pairs WHERE pair = 'data'
)
SELECT
    criterion,
    compared,
    count(*) AS pairs,
    avg(pearson) AS pearson,
    avg(corrected) AS corrected,
    CASE WHEN avg(corrected) - avg(half) < -1 THEN -1 ELSE avg(corrected) - avg(half) END AS ci_low,
    CASE WHEN avg(corrected) + avg(half) > 1 THEN 1 ELSE avg(corrected) + avg(half) END AS ci_high,
    min(pearson) AS lowest,
    max(pearson) AS highest
FROM compared
GROUP BY criterion, compared
