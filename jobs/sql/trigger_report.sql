-- name: trigger_report
-- description: Orders the model's answers to the report rows with the chosen patterns inserted, and with random tokens of
--   the run's own texts at the same places as a control.
-- grain: run_id, example_id, attack
-- materialized: attack
-- depends: trigger_choice, trigger_patterns, splits
-- audits: attacks_have_controls
-- param report_victims: integer from 1 = 200; Report rows of each gold class that are attacked, at most.
-- param report_draws: integer from 1 = 20; Random controls of each pattern; the smallest possible p of trigger_effects is 1 / (1 + draws).
-- param seed: integer = 0; Seed of every random choice.
-- column attack: `pattern_id/pattern`, or `pattern_id/control/draw`.
WITH chosen AS (
    SELECT t.*
    FROM trigger_patterns AS t
    JOIN selected_runs USING (run_id)
    SEMI JOIN trigger_choice AS c ON c.run_id = t.run_id AND c.pattern_id = t.pattern_id
),
attacked AS (
    SELECT s.run_id, s.example_id
    FROM splits AS s
    JOIN predictions AS p USING (run_id, example_id)
    WHERE s.purpose = 'triggers' AND s.part = 'report'
    QUALIFY row_number() OVER (
        PARTITION BY s.run_id, p.gold ORDER BY uniform(concat_ws('/', 'victim', $seed, s.example_id)), s.example_id
    ) <= $report_victims
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
    SELECT c.*, w.words, unnest(range($report_draws)) AS draw FROM chosen AS c JOIN texts AS w USING (run_id)
)
SELECT run_id, pattern_id || '/pattern' AS attack, example_ids, token_ids AS tokens, segments, ratios
FROM chosen
JOIN victims USING (run_id)
UNION ALL
SELECT
    run_id,
    pattern_id || '/control/' || draw,
    example_ids,
    -- Other draws than in the selection, which chose the patterns that beat those.
    other_words(token_ids, words, concat_ws('/', 'report', $seed, pattern_id, draw)),
    segments,
    ratios
FROM controls
JOIN victims USING (run_id)
