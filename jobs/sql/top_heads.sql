-- name: top_heads
-- description: How many examples it takes until the top k heads are settled. The noise of a mean over m examples is that
--   over the run's own n, times sqrt(n / m); so the bootstrap replicates tell of other sizes too, larger ones included.
-- grain: run_id, criterion, sample_size
-- materialized: table
-- depends: head_stability, head_importance, head_replicates
-- audits: top_heads_settle
-- param top_k: integer from 1 = 10; Heads that count as the most important.
-- column criterion: Criterion of importance (head_values).
-- column sample_size: Examples; one of the rows has as many as the run.
-- column is_own: Whether that is the run's own number.
-- column jaccard: Overlap of the top k by so many examples with those of the run: heads in both over heads in either; mean
--   over replicates.
-- column jaccard_low: Its 2.5 % quantile over replicates.
-- column jaccard_high: Its 97.5 % quantile.
-- column same: Share of replicates with exactly the run's top k.
-- column consensus: Heads in the consensus (head_stability).
WITH sizes AS (
    SELECT run_id, criterion, any_value(n) AS n
    FROM head_importance
    JOIN selected_runs USING (run_id)
    WHERE criterion <> 'random'
    GROUP BY ALL
),
asked AS (
    SELECT run_id, criterion, n, unnest(list_sort(list_distinct([n, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]))) AS size
    FROM sizes
),
ranked AS (
    SELECT
        a.run_id,
        a.criterion,
        a.size,
        r.replicate,
        row_number() OVER (
            PARTITION BY a.run_id, a.criterion, a.size, r.replicate
            ORDER BY s.importance + (r.importance - s.importance) * sqrt(a.n / a.size) DESC, r.layer, r.head
        ) <= $top_k AS is_top,
        s.place < $top_k AS is_own_top
    FROM asked AS a
    JOIN head_replicates AS r USING (run_id, criterion)
    JOIN head_stability AS s USING (run_id, criterion, layer, head)
    WHERE r.replicate < 100
),
overlapping AS (
    SELECT
        run_id,
        criterion,
        size,
        replicate,
        count(*) FILTER (is_top AND is_own_top) / count(*) FILTER (is_top OR is_own_top) AS jaccard
    FROM ranked
    GROUP BY ALL
),
consensus AS (
    SELECT run_id, criterion, count(*) FILTER (in_consensus) AS consensus
    FROM head_stability
    GROUP BY ALL
)
SELECT
    o.run_id,
    o.criterion,
    o.size AS sample_size,
    o.size = any_value(s.n) AS is_own,
    avg(o.jaccard) AS jaccard,
    quantile_cont(o.jaccard, 0.025) AS jaccard_low,
    quantile_cont(o.jaccard, 0.975) AS jaccard_high,
    count(*) FILTER (o.jaccard = 1) / count(*) AS same,
    any_value(c.consensus) AS consensus
FROM overlapping AS o
JOIN sizes AS s USING (run_id, criterion)
JOIN consensus AS c USING (run_id, criterion)
GROUP BY o.run_id, o.criterion, o.size
