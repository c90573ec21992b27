-- name: head_universality
-- description: How alike the importance of heads is in two runs of one architecture (paper, section 4.4), for every
--   ordered pair of runs, a run with itself included. With `--run`, for every pair that one of those runs is in.
--   Attribution and Taylor scores are of the class that head_values takes: a run that attributes the predicted class
--   alone is compared by it, also with a run of the gold class.
-- grain: run_a, run_b, criterion
-- materialized: table
-- depends: head_importance, head_replicates
-- audits: universality_is_symmetric
-- agree: family n_layers n_heads
-- param top_k: integer from 1 = 10; Heads in the overlap of the most important ones.
-- column run_a: One run (runs.run_id).
-- column run_b: The other run.
-- column criterion: Criterion of importance.
-- column pearson: Correlation of the two runs' importances over all heads; null if all heads of a run are alike.
-- column spearman: The same of their ranks (equal values share their mean rank).
-- column n_heads: Heads compared.
-- column topk_jaccard: Heads among the `top_k` of both runs over those among the `top_k` of either.
-- column ci_low: Lower end of the 95 % interval of pearson, from resampling examples (not heads).
-- column ci_high: Upper end of it. Resampling adds noise, so the interval tends to lie below high correlations.
WITH importance AS (
    SELECT
        i.*,
        (r.family, r.n_layers, r.n_heads) AS architecture,
        i.run_id IN (SELECT run_id FROM selected_runs) AS selected
    FROM head_importance AS i
    JOIN runs AS r USING (run_id)
    WHERE i.criterion <> 'random'
),
ranked AS (
    SELECT
        *,
        rank() OVER w + (count(*) OVER (PARTITION BY run_id, criterion, importance) - 1) / 2 AS place,
        row_number() OVER (PARTITION BY run_id, criterion ORDER BY importance DESC, layer, head) <= $top_k AS in_top
    FROM importance
    WINDOW w AS (PARTITION BY run_id, criterion ORDER BY importance)
),
pairs AS (
    SELECT
        a.run_id AS run_a,
        b.run_id AS run_b,
        a.criterion,
        if(a.run_id = b.run_id, corr(a.importance, a.importance) * 0 + 1, corr(a.importance, b.importance)) AS pearson,
        if(a.run_id = b.run_id, corr(a.place, a.place) * 0 + 1, corr(a.place, b.place)) AS spearman,
        count(*) AS n_heads,
        count(*) FILTER (a.in_top AND b.in_top) / nullif(count(*) FILTER (a.in_top OR b.in_top), 0) AS topk_jaccard
    FROM ranked AS a
    JOIN ranked AS b USING (criterion, layer, head, architecture)
    WHERE a.selected OR b.selected
    GROUP BY a.run_id, b.run_id, a.criterion
),
resampled AS (
    -- One direction is enough: the other has the same correlations.
    SELECT a.run_id AS run_a, b.run_id AS run_b, a.criterion, a.replicate, corr(a.importance, b.importance) AS pearson
    FROM head_replicates AS a
    JOIN head_replicates AS b USING (criterion, layer, head, replicate)
    JOIN pairs AS p ON p.run_a = a.run_id AND p.run_b = b.run_id AND p.criterion = a.criterion
    WHERE p.run_a < p.run_b
    GROUP BY ALL
),
intervals AS (
    SELECT
        run_a,
        run_b,
        criterion,
        quantile_cont(pearson, 0.025) AS ci_low,
        quantile_cont(pearson, 0.975) AS ci_high
    FROM resampled
    WHERE NOT isnan(pearson)
    GROUP BY ALL
)
SELECT
    p.run_a,
    p.run_b,
    p.criterion,
    if(isnan(pearson), NULL, pearson) AS pearson,
    if(isnan(spearman), NULL, spearman) AS spearman,
    n_heads,
    topk_jaccard,
    if(p.run_a = p.run_b, if(isnan(pearson), NULL, pearson), ci_low) AS ci_low,
    if(p.run_a = p.run_b, if(isnan(pearson), NULL, pearson), ci_high) AS ci_high
FROM pairs AS p
LEFT JOIN intervals AS i
    ON i.run_a = least(p.run_a, p.run_b) AND i.run_b = greatest(p.run_a, p.run_b) AND i.criterion = p.criterion
