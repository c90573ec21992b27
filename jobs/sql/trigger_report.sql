-- name: trigger_report
-- description: Requests the model's answers to the report rows with the chosen patterns inserted, and with random tokens of
--   the run's own texts at the same places as a control.
-- grain: run_id, example_id, pattern, control, draw
-- materialized: attacked_answers
-- depends: trigger_choice, trigger_patterns, splits
-- audits: attacks_have_controls
-- param report_victims: integer from 1 = 200; Report rows of each gold class that are attacked, at most.
-- param report_draws: integer from 1 = 20; Random controls of each pattern; the smallest possible p of trigger_effects is 1 / (1 + draws).
-- param controls: matched|uniform = matched; Words that random tokens are drawn from: those that occur about as often in the run's texts as the token they replace, or all.
-- param nearest: integer from 1 = 50; With `matched`, how many words, those nearest to the token by rank of count.
-- param seed: integer = 0; Seed of every random choice.
-- column pattern: Pattern (trigger_patterns.pattern).
-- column control: Whether random tokens stand in the places of the pattern's.
-- column draw: Number of the random draw; null for the pattern itself.
WITH attacks AS (
    SELECT *, unnest([NULL::BIGINT] || range($report_draws)) AS draw
    FROM trigger_patterns
    SEMI JOIN selected_runs USING (run_id)
    SEMI JOIN trigger_choice USING (run_id, pattern)
)
SELECT
    run_id,
    pattern,
    draw IS NOT NULL AS control,
    draw,
    example_ids,
    -- Other draws than in the selection, which chose the patterns that beat those.
    attack_tokens(token_ids, words, nearest, draw, concat_ws('/', 'report', $seed, pattern_seed(run_id, pattern), draw)) AS tokens,
    segments,
    ratios
FROM attacks
JOIN attacked_rows('splits', 'report', $report_victims, $seed) USING (run_id)
JOIN text_words($controls, $nearest) USING (run_id)
