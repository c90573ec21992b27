-- name: trigger_attacks
-- description: What inserting each pattern does to each gold class (paper, section 6, table 3), beside random tokens at the
--   same places: rows still correct, and rows pushed to the class that the pattern argues for.
-- grain: pattern_id, gold, control, part
-- materialized: table
-- depends: trigger_selection, trigger_report, trigger_patterns
-- audits: attacks_are_counts
-- column pattern_id: Pattern (trigger_patterns.pattern_id).
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
        split_part(a.attack, '/', 1)::BIGINT AS pattern_id,
        a.run_id,
        p.gold,
        split_part(a.attack, '/', 2) = 'control' AS control,
        if(a.job = 'trigger_report', 'report', 'selection') AS part,
        a.attack,
        t.predicted,
        count(*) AS n,
        count(*) FILTER (a.predicted = p.gold) AS correct,
        count(*) FILTER (p.predicted = p.gold) AS clean_correct,
        count(*) FILTER (a.predicted = t.predicted) AS pushed,
        count(*) FILTER (p.predicted = t.predicted) AS clean_pushed,
        count(*) FILTER (a.truncated) AS truncated
    FROM attack_outcomes AS a
    JOIN selected_runs USING (run_id)
    JOIN predictions AS p USING (run_id, example_id)
    JOIN trigger_patterns AS t
        ON t.run_id = a.run_id AND t.pattern_id = split_part(a.attack, '/', 1)::BIGINT
    WHERE a.job IN ('trigger_selection', 'trigger_report')
    GROUP BY ALL
)
SELECT
    pattern_id,
    run_id,
    gold,
    control,
    part,
    predicted,
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
GROUP BY pattern_id, run_id, gold, control, part, predicted
