-- name: trigger_answers
-- description: The model's answers with patterns and with random tokens inserted, beside its answer to the same row
--   without an insertion.
-- grain: run_id, part, pattern, control, draw, example_id
-- materialized: view
-- depends: attacked_answers, predictions, trigger_patterns
-- column part: `selection` (the patterns are chosen on these rows) or `report` (they are not).
-- column pattern: Pattern (trigger_patterns.pattern).
-- column source: How the pattern was mined: by `attribution` or by `attention`.
-- column control: false = the pattern; true = random tokens at the same places.
-- column draw: Number of the random draw; null for the pattern itself.
-- column label: Class that the pattern argues for.
-- column gold: Gold class of the row.
-- column clean: Class answered without an insertion.
-- column answer: Class answered with it.
-- column truncated: Whether the length limit cut an inserted token off.
SELECT
    a.run_id,
    if(a.job = 'trigger_report', 'report', 'selection') AS part,
    a.pattern,
    t.source,
    a.control,
    a.draw,
    a.example_id,
    t.predicted AS label,
    p.gold,
    p.predicted AS clean,
    a.predicted AS answer,
    a.truncated
FROM attacked_answers AS a
JOIN predictions AS p USING (run_id, example_id)
JOIN trigger_patterns AS t USING (run_id, pattern)
WHERE a.job IN ('trigger_selection', 'trigger_report')
