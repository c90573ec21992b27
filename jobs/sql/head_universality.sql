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
-- column pair: What differs: `none` (a run with itself), `settings` (the same rows and model), `checkpoint` (the same rows,
--   another model: two seeds of one task), or `data` (other rows: two tasks).
-- column pearson: Correlation of the two runs' importances over all heads; null if all heads of a run are alike.
-- column spearman: The same of their ranks (equal values share their mean rank).
-- column n_heads: Heads compared.
-- column topk_jaccard: Heads among the `top_k` of both runs over those among the `top_k` of either.
-- column reliability_a: Share of the variance of run_a's importances over heads that is not noise of its examples; the
--   correlation to be expected with the same run on other examples as many.
-- column reliability_b: The same of run_b.
-- column halves_a: The correlation to be expected between two halves of run_a's examples.
-- column corrected: pearson without the noise of the examples, as endless examples would give it; null where there is no
--   more than noise.
-- column ci_low: Lower end of the 95 % interval of corrected, over examples (not heads).
-- column ci_high: Upper end of it. Simulated, with half of the variance over heads noise or less: it holds the correlation of
--   endless examples in 93 to 98 % of samples, and in more where that is near 1.
-- column heads_low: Lower end of the 95 % interval of pearson over heads (Fisher's), as if they were a sample of many.
-- column heads_high: Upper end of it.
-- column without_one_low: Smallest pearson that leaving out one head gives.
-- column without_one_high: Largest.
-- column by_layer: Mean of pearson if each layer's heads of one run were permuted: what knowing the layers alone gives.
-- column by_layer_high: Upper 97.5 % point of it (normal).
WITH importance AS (
    SELECT
        i.*,
        (r.family, r.n_layers, r.n_heads) AS architecture,
        (r.task, r.split, r.identity ->> 'dataset') AS source,
        r.identity -> 'model' AS weights,
        i.run_id IN (SELECT run_id FROM selected_runs) AS selected
    FROM head_importance AS i
    JOIN runs AS r USING (run_id)
    WHERE i.criterion <> 'random'
),
ranked AS (
    SELECT
        *,
        rank() OVER w + (count(*) OVER (PARTITION BY run_id, criterion, importance) - 1) / 2 AS place,
        row_number() OVER (PARTITION BY run_id, criterion ORDER BY importance DESC, layer, head) <= $top_k AS in_top,
        importance - exact_sum(importance) OVER run / count(*) OVER run AS centred,
        exact_sum(importance) OVER of_layer / count(*) OVER of_layer
            - exact_sum(importance) OVER run / count(*) OVER run AS layer_centred,
        count(*) OVER of_layer AS heads_of_layer
    FROM importance
    WINDOW
        w AS (PARTITION BY run_id, criterion ORDER BY importance),
        run AS (PARTITION BY run_id, criterion),
        of_layer AS (PARTITION BY run_id, criterion, layer)
),
heads AS (
    SELECT
        a.run_id AS run_a,
        b.run_id AS run_b,
        a.criterion,
        a.layer,
        a.heads_of_layer,
        CASE
            WHEN a.run_id = b.run_id THEN 'none'
            WHEN a.source IS DISTINCT FROM b.source THEN 'data'
            WHEN a.weights IS DISTINCT FROM b.weights THEN 'checkpoint'
            ELSE 'settings'
        END AS pair,
        a.importance AS x,
        b.importance AS y,
        a.place AS x_place,
        b.place AS y_place,
        a.in_top AS x_top,
        b.in_top AS y_top,
        a.centred AS x_centred,
        b.centred AS y_centred,
        a.layer_centred AS x_layer,
        b.layer_centred AS y_layer
    FROM ranked AS a
    JOIN ranked AS b USING (criterion, layer, head, architecture)
    WHERE a.selected OR b.selected
),
pairs AS (
    SELECT
        run_a,
        run_b,
        criterion,
        any_value(pair) AS pair,
        if(run_a = run_b, corr(x, x) * 0 + 1, corr(x, y)) AS pearson,
        if(run_a = run_b, corr(x_place, x_place) * 0 + 1, corr(x_place, y_place)) AS spearman,
        count(*) AS n_heads,
        count(*) FILTER (x_top AND y_top) / nullif(count(*) FILTER (x_top OR y_top), 0) AS topk_jaccard,
        exact_sum(x_centred * y_centred) AS xy,
        exact_sum(x_centred * x_centred) AS xx,
        exact_sum(y_centred * y_centred) AS yy
    FROM heads
    GROUP BY run_a, run_b, criterion
),
-- A sum over the other heads, centred at their own mean: that of all less this head's share of it.
without_one AS (
    SELECT
        run_a,
        run_b,
        criterion,
        min(pearson) AS low,
        max(pearson) AS high
    FROM (
        SELECT
            h.run_a,
            h.run_b,
            h.criterion,
            (p.xy - h.x_centred * h.y_centred * p.n_heads / (p.n_heads - 1)) / nullif(sqrt(
                greatest(p.xx - h.x_centred ** 2 * p.n_heads / (p.n_heads - 1), 0)
                * greatest(p.yy - h.y_centred ** 2 * p.n_heads / (p.n_heads - 1), 0)
            ), 0) AS pearson
        FROM heads AS h
        JOIN pairs AS p USING (run_a, run_b, criterion)
        WHERE p.n_heads > 2
    )
    GROUP BY run_a, run_b, criterion
),
-- Mean and variance, over all permutations within layers, of the sum of products.
permuted AS (
    SELECT
        run_a,
        run_b,
        criterion,
        exact_sum(between_layers) AS mean,
        exact_sum(variance) AS variance
    FROM (
        SELECT
            run_a,
            run_b,
            criterion,
            layer,
            exact_sum(x_layer * y_layer) AS between_layers,
            coalesce(
                exact_sum((x_centred - x_layer) ** 2) * exact_sum((y_centred - y_layer) ** 2)
                    / nullif(any_value(heads_of_layer) - 1, 0),
                0
            ) AS variance
        FROM heads
        GROUP BY run_a, run_b, criterion, layer
    )
    GROUP BY run_a, run_b, criterion
),
-- What examples add to the sums of products, by replicates; runs of one split share their examples.
deviations AS (
    SELECT
        r.run_id,
        r.criterion,
        r.layer,
        r.head,
        r.replicate,
        r.importance,
        r.importance - i.importance AS deviation
    FROM head_replicates AS r
    JOIN importance AS i USING (run_id, criterion, layer, head)
),
resampled AS (
    -- One direction is enough: the other has the same correlations.
    SELECT
        a.run_id AS run_a,
        b.run_id AS run_b,
        a.criterion,
        a.replicate,
        count(*) * covar_pop(a.importance, b.importance) AS xy,
        count(*) * var_pop(a.importance) AS xx,
        count(*) * var_pop(b.importance) AS yy,
        count(*) * covar_pop(a.deviation, b.deviation) AS noise_xy,
        count(*) * var_pop(a.deviation) AS noise_xx,
        count(*) * var_pop(b.deviation) AS noise_yy
    FROM deviations AS a
    JOIN deviations AS b USING (criterion, layer, head, replicate)
    JOIN pairs AS p ON p.run_a = a.run_id AND p.run_b = b.run_id AND p.criterion = a.criterion
    WHERE p.run_a <= p.run_b
    GROUP BY ALL
),
noise AS (
    SELECT run_a, run_b, criterion, avg(noise_xy) AS xy, avg(noise_xx) AS xx, avg(noise_yy) AS yy
    FROM resampled
    GROUP BY ALL
),
-- A replicate has the noise twice: of the run's examples, and of drawing from them.
replicated AS (
    SELECT r.run_a, r.run_b, r.criterion, stddev_samp((r.xy - 2 * n.xy) / sqrt((r.xx - 2 * n.xx) * (r.yy - 2 * n.yy))) AS error
    FROM resampled AS r
    JOIN noise AS n USING (run_a, run_b, criterion)
    WHERE r.xx > 2 * n.xx AND r.yy > 2 * n.yy
    GROUP BY ALL
),
noise_and_error AS (
    SELECT n.*, r.error FROM noise AS n LEFT JOIN replicated AS r USING (run_a, run_b, criterion)
),
both_directions AS (
    SELECT run_a, run_b, criterion, xy, xx, yy, error FROM noise_and_error
    UNION ALL
    SELECT run_b, run_a, criterion, xy, yy, xx, error FROM noise_and_error WHERE run_a <> run_b
),
told AS (
    SELECT
        p.*,
        if(isnan(p.pearson), NULL, p.pearson) AS r,
        p.run_a = p.run_b AS is_itself,
        n.xx AS noise_xx,
        n.yy AS noise_yy,
        if(
            p.xx > n.xx AND p.yy > n.yy,
            (p.xy - n.xy) / sqrt((p.xx - n.xx) * (p.yy - n.yy)),
            NULL
        ) AS corrected,  -- chance may take it beyond 1
        n.error
    FROM pairs AS p
    LEFT JOIN both_directions AS n USING (run_a, run_b, criterion)
)
SELECT
    t.run_a,
    t.run_b,
    t.criterion,
    t.pair,
    t.r AS pearson,
    if(isnan(t.spearman), NULL, t.spearman) AS spearman,
    t.n_heads,
    t.topk_jaccard,
    if(t.xx > 0, greatest(0, 1 - t.noise_xx / t.xx), NULL) + 0 * t.noise_xx AS reliability_a,
    if(t.yy > 0, greatest(0, 1 - t.noise_yy / t.yy), NULL) + 0 * t.noise_yy AS reliability_b,
    if(t.xx > 0, greatest(0, (t.xx - t.noise_xx) / (t.xx + t.noise_xx)), NULL) + 0 * t.noise_xx AS halves_a,
    if(t.is_itself, t.r, within_one(t.corrected)) AS corrected,
    if(t.is_itself, t.r, within_one(t.corrected - 1.959964 * t.error)) AS ci_low,
    if(t.is_itself, t.r, within_one(t.corrected + 1.959964 * t.error)) AS ci_high,
    if(t.is_itself OR t.n_heads < 4, NULL, tanh(fisher(t.r) - 1.959964 / sqrt(t.n_heads - 3))) AS heads_low,
    if(t.is_itself OR t.n_heads < 4, NULL, tanh(fisher(t.r) + 1.959964 / sqrt(t.n_heads - 3))) AS heads_high,
    w.low AS without_one_low,
    w.high AS without_one_high,
    q.mean / nullif(sqrt(t.xx * t.yy), 0) AS by_layer,
    (q.mean + 1.959964 * sqrt(q.variance)) / nullif(sqrt(t.xx * t.yy), 0) AS by_layer_high
FROM told AS t
LEFT JOIN without_one AS w USING (run_a, run_b, criterion)
JOIN permuted AS q USING (run_a, run_b, criterion)
