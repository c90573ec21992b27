-- name: splits
-- description: Which rows of a run rank heads or yield patterns, and which rows are reported on. The two parts are
--   disjoint and drawn by seed, the same for every run of the same rows.
-- grain: run_id, purpose, example_id, part
-- materialized: table
-- depends: examples, predictions
-- labels: needed
-- audits: splits_have_answers, splits_are_disjoint_or_one
-- param sample: integer from 2 = 1000; Labelled rows of each run used for each purpose, at most.
-- param seed: integer = 0; Seed of every random choice.
-- param rows: disjoint|released = disjoint; `released`: heads are ranked on the rows they are evaluated on, the first `sample` of the split, as the paper's code does with 200.
-- column purpose: `pruning` (also of the effectiveness analysis) or `triggers`.
-- column part: `ranking` or `evaluation` of pruning; `selection` or `report` of triggers.
WITH purposes AS (
    SELECT unnest(['pruning', 'triggers']) AS purpose
),
drawn AS (
    -- From all rows with a label, those without an answer too: a quarantined one must not shift all after it.
    SELECT
        run_id,
        purpose,
        example_id,
        row_number() OVER (
            PARTITION BY run_id, purpose
            ORDER BY
                if(purpose = 'pruning' AND $rows = 'released', 0, uniform(concat_ws('/', 'split', $seed, purpose, example_id))),
                example_id
        ) - 1 AS place
    FROM examples
    JOIN selected_runs USING (run_id)
    CROSS JOIN purposes
    WHERE examples.gold IS NOT NULL
)
SELECT run_id, purpose, example_id, unnest(parts) AS part
FROM (
    SELECT
        *,
        CASE
            WHEN purpose = 'triggers' THEN [if(place % 2 = 0, 'selection', 'report')]
            WHEN $rows = 'released' THEN ['ranking', 'evaluation']
            ELSE [if(place % 2 = 0, 'ranking', 'evaluation')]
        END AS parts
    FROM drawn
    SEMI JOIN predictions USING (run_id, example_id)
    WHERE place < $sample
)
