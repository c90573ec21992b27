-- name: trigger_selection
-- description: Orders the model's answers to selection rows with the strongest mined patterns inserted, and with random
--   tokens of the run's own texts at the same places as a control.
-- grain: run_id, example_id, attack
-- materialized: attack
-- depends: trigger_patterns, splits
-- audits: attacks_have_controls
-- param patterns: integer from 1 = 20; Patterns tried for each class they argue for, the strongest with different tokens.
-- param victims: integer from 1 = 60; Selection rows of each gold class that are attacked, at most.
-- param control_draws: integer from 1 = 2; Random controls of each pattern. They only rank the patterns: what is reported of them comes from other rows and other draws (trigger_report).
-- param seed: integer = 0; Seed of every random choice.
-- column attack: `pattern_id/pattern`, or `pattern_id/control/draw`.
WITH chosen AS (
    SELECT *
    FROM trigger_patterns
    SEMI JOIN selected_runs USING (run_id)
    QUALIFY row_number() OVER (PARTITION BY run_id, predicted, tokens ORDER BY value_1 + value_2 DESC, pattern_id) = 1
),
strongest AS (
    SELECT *
    FROM chosen
    QUALIFY row_number() OVER (PARTITION BY run_id, predicted ORDER BY value_1 + value_2 DESC, pattern_id) <= $patterns
),
attacked AS (
    SELECT s.run_id, s.example_id
    FROM splits AS s
    JOIN predictions AS p USING (run_id, example_id)
    WHERE s.purpose = 'triggers' AND s.part = 'selection'
    QUALIFY row_number() OVER (
        PARTITION BY s.run_id, p.gold ORDER BY uniform(concat_ws('/', 'victim', $seed, s.example_id)), s.example_id
    ) <= $victims
),
victims AS (
    SELECT run_id, list(example_id ORDER BY example_id) AS example_ids FROM attacked GROUP BY run_id
),
texts AS (
    SELECT run_id, list(DISTINCT token_id ORDER BY token_id) AS words
    FROM tokens
    JOIN selected_runs USING (run_id)
    WHERE segment IS NOT NULL
    GROUP BY run_id
),
controls AS (
    SELECT c.*, w.words, unnest(range($control_draws)) AS draw FROM strongest AS c JOIN texts AS w USING (run_id)
)
SELECT
    run_id,
    pattern_id || '/pattern' AS attack,
    list_filter(example_ids, lambda one: one <> source_example_id) AS example_ids,
    token_ids AS tokens,
    segments,
    ratios
FROM strongest
JOIN victims USING (run_id)
UNION ALL
SELECT
    run_id,
    pattern_id || '/control/' || draw,
    list_filter(example_ids, lambda one: one <> source_example_id),
    other_words(token_ids, words, concat_ws('/', 'control', $seed, pattern_id, draw)),
    segments,
    ratios
FROM controls
JOIN victims USING (run_id)
