-- name: pruned_values
-- description: What the answers to pruning are measured by: probability and margin (logit less the largest other) of the
--   gold class, and of the class that the whole model predicts. Answers of an earlier release, without class scores, are
--   left out.
-- grain: run_id, criterion, draw, step, example_id, measure
-- materialized: view
-- depends: pruned_accuracy, predictions
-- column criterion: Criterion of the pruning order, or `random` (a control).
-- column draw: Number of the random order; 0 for every other criterion.
-- column step: Tenths of all heads removed, least important first.
-- column measure: `prob_gold`, `margin_gold`, `prob_predicted` or `margin_predicted`.
-- column value: Its value.
WITH classes AS (
    SELECT
        m.run_id,
        m.criterion,
        m.draw,
        m.step,
        m.example_id,
        m.logits,
        unnest(['gold', 'predicted']) AS which,
        unnest([p.gold, p.predicted]) + 1 AS place
    FROM masked_answers AS m
    JOIN predictions AS p USING (run_id, example_id)
    WHERE m.job = 'pruned_accuracy' AND m.logits IS NOT NULL AND p.gold IS NOT NULL
),
scores AS (
    SELECT
        * EXCLUDE logits,
        -- Logits less that of the class: the others' largest is the margin, but for its sign.
        list_transform(logits, lambda logit: logit::DOUBLE - logits[place]) AS beyond
    FROM classes
)
SELECT
    run_id,
    criterion,
    draw,
    step,
    example_id,
    unnest(['prob_' || which, 'margin_' || which]) AS measure,
    unnest([
        1 / list_sum(list_transform(beyond, lambda logit: exp(logit))),
        -list_max(list_filter(beyond, lambda logit, index: index <> place))
    ]) AS value
FROM scores
