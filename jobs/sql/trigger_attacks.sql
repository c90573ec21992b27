-- name: trigger_attacks
-- description: What inserting each pattern does to each gold class (paper, section 6, table 3), beside random tokens at the
--   same places: rows still correct, and rows pushed to the class that the pattern argues for.
-- grain: run_id, pattern, gold, control, part
-- materialized: table
-- depends: trigger_answers, trigger_selection, trigger_report
-- audits: attacks_are_counts
-- column pattern: Pattern (trigger_patterns.pattern).
-- column gold: Gold class of the rows attacked.
-- column control: false = the pattern; true = random tokens of equal length at the same places, means over draws.
-- column part: `selection` (the patterns were chosen on these rows) or `report` (they were not: believe these).
-- column predicted: Class that the pattern argues for.
-- column correct: Rows answered correctly.
-- column n: Rows attacked.
-- column clean_correct: The same rows answered correctly without an insertion.
-- column pushed: Rows answered with the pattern's class.
-- column clean_pushed: The same rows answered so without an insertion.
-- column draws: Random controls averaged over; 1 for the pattern.
-- column truncated: Rows in which the length limit cut an inserted token off.
-- column accuracy_low: Lower end of the 95 % Wilson interval of correct / n; for a control the lowest draw.
-- column accuracy_high: Upper end of it; for a control the highest draw.
-- column push_low: Lower end of the 95 % Wilson interval of pushed / n; for a control the lowest draw.
-- column push_high: Upper end of it; for a control the highest draw.
WITH by_draw AS (
    SELECT
        run_id,
        pattern,
        gold,
        control,
        part,
        draw,
        label,
        count(*) AS n,
        count(*) FILTER (answer = gold) AS correct,
        count(*) FILTER (clean = gold) AS clean_correct,
        count(*) FILTER (answer = label) AS pushed,
        count(*) FILTER (clean = label) AS clean_pushed,
        count(*) FILTER (truncated) AS truncated
    FROM trigger_answers
    SEMI JOIN selected_runs USING (run_id)
    GROUP BY ALL
)
SELECT
    run_id,
    pattern,
    gold,
    control,
    part,
    label AS predicted,
    avg(correct) AS correct,
    any_value(n) AS n,
    any_value(clean_correct) AS clean_correct,
    avg(pushed) AS pushed,
    any_value(clean_pushed) AS clean_pushed,
    count(*) AS draws,
    avg(truncated) AS truncated,
    if(control, min(correct / n), wilson_low(avg(correct), any_value(n))) AS accuracy_low,
    if(control, max(correct / n), wilson_high(avg(correct), any_value(n))) AS accuracy_high,
    if(control, min(pushed / n), wilson_low(avg(pushed), any_value(n))) AS push_low,
    if(control, max(pushed / n), wilson_high(avg(pushed), any_value(n))) AS push_high
FROM by_draw
GROUP BY run_id, pattern, gold, control, part, label
