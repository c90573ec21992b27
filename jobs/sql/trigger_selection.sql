-- name: trigger_selection
-- description: Requests the model's answers to selection rows with the strongest mined patterns inserted, and with random
--   tokens of the run's own texts at the same places as a control.
-- grain: run_id, example_id, pattern, control, draw
-- materialized: attacked_answers
-- depends: trigger_patterns, splits
-- audits: attacks_have_controls
-- param patterns: integer from 1 = 20; Patterns of each source tried for each class they argue for, the strongest with different tokens.
-- param victims: integer from 1 = 60; Selection rows of each gold class that are attacked, at most.
-- param control_draws: integer from 1 = 2; Random controls of each pattern. They only rank the patterns: what is reported of them comes from other rows and other draws (trigger_report).
-- param controls: matched|uniform = matched; Words that random tokens are drawn from: those that occur about as often in the run's texts as the token they replace, or all.
-- param nearest: integer from 1 = 50; With `matched`, how many words, those nearest to the token by rank of count.
-- param seed: integer = 0; Seed of every random choice.
-- column pattern: Pattern (trigger_patterns.pattern).
-- column control: Whether random tokens stand in the places of the pattern's.
-- column draw: Number of the random draw; null for the pattern itself.
WITH distinct_tokens AS (
    SELECT *
    FROM trigger_patterns
    SEMI JOIN selected_runs USING (run_id)
    QUALIFY row_number() OVER (PARTITION BY run_id, source, predicted, tokens ORDER BY value_1 + value_2 DESC, pattern) = 1
),
strongest AS (
    SELECT *
    FROM distinct_tokens
    QUALIFY row_number() OVER (PARTITION BY run_id, source, predicted ORDER BY value_1 + value_2 DESC, pattern) <= $patterns
),
attacks AS (
    SELECT *, unnest([NULL::BIGINT] || range($control_draws)) AS draw FROM strongest
)
SELECT
    run_id,
    pattern,
    draw IS NOT NULL AS control,
    draw,
    list_filter(example_ids, lambda one: one <> example_id) AS example_ids,
    attack_tokens(token_ids, words, nearest, draw, concat_ws('/', 'control', $seed, pattern_seed(run_id, pattern), draw)) AS tokens,
    segments,
    ratios
FROM attacks
JOIN attacked_rows('splits', 'selection', $victims, $seed) USING (run_id)
JOIN text_words($controls, $nearest) USING (run_id)
