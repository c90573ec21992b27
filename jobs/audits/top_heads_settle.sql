-- name: top_heads_settle
-- description: Overlaps are shares in the order of their quantiles, and each run has a row of its own size.
-- depends: top_heads
SELECT run_id, criterion, count(*) FILTER (is_own) AS own, min(jaccard_low) AS least, max(jaccard_high) AS most
FROM top_heads
GROUP BY run_id, criterion
HAVING count(*) FILTER (is_own) <> 1
    OR min(jaccard_low) < 0
    OR max(jaccard_high) > 1
    OR bool_or(jaccard_low > jaccard_high)
    OR bool_or(same > jaccard + 1e-12)
