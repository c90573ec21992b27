-- name: faithfulness
-- description: The faithfulness board: how faithful each criterion's ranking of heads is to what the heads do, on rows that
--   did not rank them. CPR is the area under the curve f(k) of faithfulness_curve (larger is better), CMD the area between it
--   and 1 (smaller is better; Mueller et al. 2025), by trapezoids over the share of heads kept.
-- grain: run_id, criterion, measure
-- materialized: table
-- depends: faithfulness_curve, pruned_values, pruning_order, head_values, splits
-- audits: board_matches_curve
-- param min_rows: integer from 2 = 30; Evaluation rows that a board needs.
-- column criterion: Criterion of the pruning order, or `random` (a control).
-- column measure: `prob_gold`, `margin_gold`, `prob_predicted` or `margin_predicted` (pruned_values).
-- column cpr: Area under f(k); of `random` the mean of its draws.
-- column cpr_low: Lower end of its 95 % interval over examples (of `random`: and over orders).
-- column cpr_high: Upper end of it.
-- column cpr_over_random: cpr less that of `random` on the same rows; null for `random`.
-- column cpr_over_random_low: Lower end of its 95 % interval over examples and random orders, paired by example.
-- column cpr_over_random_high: Upper end of it.
-- column cpr_over_attattr: cpr less that of `attattr` on the same rows; null for `attattr` and `random`.
-- column cpr_over_attattr_low: Lower end of its 95 % interval over examples, paired.
-- column cpr_over_attattr_high: Upper end of it.
-- column cmd: Area of |1 - f(k)|; of `random` the mean of its draws.
-- column cmd_low: Lower end of its 95 % interval, as of cpr.
-- column cmd_high: Upper end of it.
-- column cmd_over_random: cmd less that of `random`; null for `random`.
-- column cmd_over_random_low: Lower end of its 95 % interval.
-- column cmd_over_random_high: Upper end of it.
-- column cmd_over_attattr: cmd less that of `attattr`; null for `attattr` and `random`.
-- column cmd_over_attattr_low: Lower end of its 95 % interval.
-- column cmd_over_attattr_high: Upper end of it.
-- column rank_agreement: Spearman correlation, over all heads, of the importances on the ranking rows with what removing each
--   head alone takes from the gold probability on the evaluation rows; null for `random`, and where either is constant.
-- column n: Evaluation rows.
-- column draws: Random orders that `random` is the mean of.
-- column ablation: What stood in place of removed heads: `zero`, or `mean` contexts.
-- column note: Why there are no numbers; null where there are.
WITH ablated AS (
    SELECT run_id, any_value(coalesce(ablation, 'zero')) AS ablation
    FROM masked_answers
    WHERE job = 'pruned_accuracy'
    GROUP BY run_id
),
steps AS (
    SELECT
        v.*,
        if(v.step IN (0, 10), 0.05, 0.1)::DOUBLE AS width,
        sign(1 - c.faithfulness) AS side
    FROM pruned_values AS v
    JOIN selected_runs USING (run_id)
    JOIN (
        SELECT run_id, criterion, draw, measure, step, (mean - none) / nullif(whole - none, 0) AS faithfulness
        FROM (
            SELECT
                *,
                any_value(mean) FILTER (step = 10) OVER same AS none,
                any_value(mean) FILTER (step = 0) OVER same AS whole
            FROM (
                SELECT run_id, criterion, draw, measure, step, exact_sum(value) / count(*) AS mean
                FROM pruned_values
                GROUP BY ALL
            )
            WINDOW same AS (PARTITION BY run_id, criterion, draw, measure)
        )
    ) AS c USING (run_id, criterion, draw, measure, step)
),
by_draw AS (
    SELECT
        run_id,
        criterion,
        draw,
        measure,
        example_id,
        any_value(value) FILTER (step = 0) AS whole,
        any_value(value) FILTER (step = 10) AS none,
        exact_sum(width * value) AS area,
        exact_sum(width * side * value) AS signed_area,
        exact_sum(width) AS width,
        exact_sum(width * side) AS signed_width
    FROM steps
    GROUP BY ALL
),
-- Both areas as ratios: the mean over rows of a numerator, over the mean of what all heads do together.
by_row AS (
    SELECT
        run_id,
        criterion,
        measure,
        example_id,
        exact_sum(area - width * none) / count(*) AS cpr,
        exact_sum(signed_width * whole - signed_area) / count(*) AS cmd,
        exact_sum(whole - none) / count(*) AS whole
    FROM by_draw
    GROUP BY ALL
),
totals AS (
    SELECT
        run_id,
        criterion,
        measure,
        count(*) AS n,
        exact_sum(whole) / count(*) AS whole,
        student(count(*) - 1) * exact_deviation(whole) / sqrt(count(*)) AS whole_half,
        exact_sum(cpr) / nullif(exact_sum(whole), 0) AS cpr,
        exact_sum(cmd) / nullif(exact_sum(whole), 0) AS cmd
    FROM by_row
    GROUP BY ALL
),
draws AS (
    SELECT
        run_id,
        measure,
        count(*) AS n,
        exact_deviation(cpr) ** 2 AS cpr_variance,
        exact_deviation(cmd) ** 2 AS cmd_variance
    FROM (
        SELECT
            run_id,
            measure,
            draw,
            exact_sum(area - width * none) / nullif(exact_sum(whole - none), 0) AS cpr,
            exact_sum(signed_width * whole - signed_area) / nullif(exact_sum(whole - none), 0) AS cmd
        FROM by_draw
        WHERE criterion = 'random'
        GROUP BY ALL
    )
    GROUP BY run_id, measure
),
-- What each row adds to the error of a ratio of means: by how much, times the rows, leaving it out would change the ratio
-- (jackknife).
residuals AS (
    SELECT
        r.run_id,
        r.criterion,
        r.measure,
        r.example_id,
        (r.cpr - t.cpr * r.whole) / nullif(t.whole - r.whole / t.n, 0) AS cpr,
        (r.cmd - t.cmd * r.whole) / nullif(t.whole - r.whole / t.n, 0) AS cmd
    FROM by_row AS r
    JOIN totals AS t USING (run_id, criterion, measure)
),
halves AS (
    SELECT
        e.run_id,
        e.criterion,
        e.measure,
        student(count(*) - 1) * exact_deviation(e.cpr) / sqrt(count(*)) AS cpr_half,
        student(count(*) - 1) * exact_deviation(e.cmd) / sqrt(count(*)) AS cmd_half,
        crossed_half(exact_deviation(e.cpr) ** 2, count(*), any_value(d.cpr_variance), any_value(d.n)) AS cpr_control_half,
        crossed_half(exact_deviation(e.cmd) ** 2, count(*), any_value(d.cmd_variance), any_value(d.n)) AS cmd_control_half,
        crossed_half(exact_deviation(e.cpr - c.cpr) ** 2, count(*), any_value(d.cpr_variance), any_value(d.n))
            AS cpr_over_random_half,
        crossed_half(exact_deviation(e.cmd - c.cmd) ** 2, count(*), any_value(d.cmd_variance), any_value(d.n))
            AS cmd_over_random_half,
        student(count(*) - 1) * exact_deviation(e.cpr - a.cpr) / sqrt(count(*)) AS cpr_over_attattr_half,
        student(count(*) - 1) * exact_deviation(e.cmd - a.cmd) / sqrt(count(*)) AS cmd_over_attattr_half,
        any_value(d.n) AS draws
    FROM residuals AS e
    LEFT JOIN residuals AS c
        ON c.run_id = e.run_id AND c.measure = e.measure AND c.example_id = e.example_id AND c.criterion = 'random'
    LEFT JOIN residuals AS a
        ON a.run_id = e.run_id AND a.measure = e.measure AND a.example_id = e.example_id AND a.criterion = 'attattr'
    LEFT JOIN draws AS d ON d.run_id = e.run_id AND d.measure = e.measure
    GROUP BY e.run_id, e.criterion, e.measure
),
overlapping AS (
    SELECT DISTINCT run_id
    FROM (SELECT run_id, example_id FROM splits WHERE purpose = 'pruning' GROUP BY ALL HAVING count(*) > 1)
),
exact AS (
    SELECT v.run_id, v.layer, v.head, exact_sum(v.value) / count(*) AS effect
    FROM head_values AS v
    JOIN splits AS s ON s.run_id = v.run_id AND s.example_id = v.example_id
    WHERE v.criterion = 'probability_difference' AND s.purpose = 'pruning' AND s.part = 'evaluation'
    GROUP BY ALL
),
places AS (
    SELECT
        o.run_id,
        o.criterion,
        rank() OVER (PARTITION BY o.run_id, o.criterion ORDER BY o.importance) + o.ties / 2 AS place,
        rank() OVER (PARTITION BY o.run_id, o.criterion ORDER BY e.effect)
            + count(*) OVER (PARTITION BY o.run_id, o.criterion, e.effect) / 2 AS exact_place
    FROM pruning_order AS o
    JOIN selected_runs USING (run_id)
    LEFT JOIN exact AS e USING (run_id, layer, head)
),
agreement AS (
    SELECT
        run_id,
        criterion,
        count(DISTINCT place) = 1 AS constant,
        if(count(DISTINCT place) > 1 AND count(DISTINCT exact_place) > 1, corr(place, exact_place), NULL) AS rank_agreement
    FROM places
    GROUP BY ALL
),
explained AS (
    SELECT
        a.run_id,
        a.criterion,
        m.measure,
        coalesce(t.n, 0) AS n,
        a.rank_agreement,
        CASE
            WHEN t.n IS NULL THEN 'no answers with class scores: those stored are of an earlier release (other `draws` ask the model anew)'
            WHEN o.run_id IS NOT NULL THEN 'the heads were ranked on the rows that would judge them'
            WHEN t.n < $min_rows THEN 'fewer evaluation rows than ' || $min_rows
            WHEN a.constant THEN 'all heads are equally important by this criterion'
            WHEN NOT abs(t.whole) > t.whole_half THEN 'removing every head does not change the measure for certain'
        END AS note
    FROM agreement AS a
    CROSS JOIN (SELECT unnest(['prob_gold', 'margin_gold', 'prob_predicted', 'margin_predicted']) AS measure) AS m
    LEFT JOIN totals AS t ON t.run_id = a.run_id AND t.criterion = a.criterion AND t.measure = m.measure
    LEFT JOIN overlapping AS o ON o.run_id = a.run_id
),
board AS (
    SELECT
        t.*,
        h.* EXCLUDE (run_id, criterion, measure),
        t.criterion = 'random' AS is_control,
        t.cpr - c.cpr AS cpr_over_random,
        t.cmd - c.cmd AS cmd_over_random,
        if(t.criterion = 'attattr', NULL, t.cpr - a.cpr) AS cpr_over_attattr,
        if(t.criterion = 'attattr', NULL, t.cmd - a.cmd) AS cmd_over_attattr
    FROM totals AS t
    JOIN halves AS h USING (run_id, criterion, measure)
    LEFT JOIN totals AS c ON c.run_id = t.run_id AND c.measure = t.measure AND c.criterion = 'random'
    LEFT JOIN totals AS a ON a.run_id = t.run_id AND a.measure = t.measure AND a.criterion = 'attattr'
)
SELECT
    e.run_id,
    e.criterion,
    e.measure,
    b.cpr,
    b.cpr - if(b.is_control, b.cpr_control_half, b.cpr_half) AS cpr_low,
    b.cpr + if(b.is_control, b.cpr_control_half, b.cpr_half) AS cpr_high,
    if(b.is_control, NULL, b.cpr_over_random) AS cpr_over_random,
    if(b.is_control, NULL, b.cpr_over_random - b.cpr_over_random_half) AS cpr_over_random_low,
    if(b.is_control, NULL, b.cpr_over_random + b.cpr_over_random_half) AS cpr_over_random_high,
    if(b.is_control, NULL, b.cpr_over_attattr) AS cpr_over_attattr,
    if(b.is_control, NULL, b.cpr_over_attattr - b.cpr_over_attattr_half) AS cpr_over_attattr_low,
    if(b.is_control, NULL, b.cpr_over_attattr + b.cpr_over_attattr_half) AS cpr_over_attattr_high,
    b.cmd,
    b.cmd - if(b.is_control, b.cmd_control_half, b.cmd_half) AS cmd_low,
    b.cmd + if(b.is_control, b.cmd_control_half, b.cmd_half) AS cmd_high,
    if(b.is_control, NULL, b.cmd_over_random) AS cmd_over_random,
    if(b.is_control, NULL, b.cmd_over_random - b.cmd_over_random_half) AS cmd_over_random_low,
    if(b.is_control, NULL, b.cmd_over_random + b.cmd_over_random_half) AS cmd_over_random_high,
    if(b.is_control, NULL, b.cmd_over_attattr) AS cmd_over_attattr,
    if(b.is_control, NULL, b.cmd_over_attattr - b.cmd_over_attattr_half) AS cmd_over_attattr_low,
    if(b.is_control, NULL, b.cmd_over_attattr + b.cmd_over_attattr_half) AS cmd_over_attattr_high,
    if(e.criterion = 'random', NULL, e.rank_agreement) AS rank_agreement,
    e.n,
    b.draws,
    ab.ablation,
    e.note
FROM explained AS e
LEFT JOIN ablated AS ab USING (run_id)
LEFT JOIN board AS b
    ON b.run_id = e.run_id AND b.criterion = e.criterion AND b.measure = e.measure AND e.note IS NULL
