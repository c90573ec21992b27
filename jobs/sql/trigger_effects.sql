-- name: trigger_effects
-- description: Whether the chosen patterns do more than random tokens at the same places, on rows that did not choose them:
--   answers lost (`drop`) or pushed (`push`), beyond the control; with an interval over rows and draws of random tokens, and
--   the pattern's rank among its random twins.
-- grain: run_id, source, ranking, label, place
-- materialized: table
-- depends: trigger_answers, trigger_choice, trigger_report, trigger_patterns
-- audits: effects_are_shares
-- column pattern: Pattern (trigger_patterns.pattern).
-- column source: How it was mined: by `attribution` or by `attention`.
-- column ranking: `drop`: rows of the gold class `label` that lose their correct answer; `push`: rows of other gold classes
--   that are answered with `label`.
-- column label: Class.
-- column place: Place in the ranking on the selection rows, from 0.
-- column tokens: The pattern's tokens.
-- column n: Rows.
-- column clean: Share of rows answered correctly (drop), or with the label (push), without an insertion.
-- column inserted: The same with the pattern inserted.
-- column control: The same with random tokens inserted: mean over draws.
-- column over_control: How much further the pattern goes than its control: control - inserted (drop), inserted - control
--   (push).
-- column ci_low: Lower end of the 95 % interval of over_control over rows and draws (paired by row; the variance of both
--   counts); null with a single draw.
-- column ci_high: Upper end of it.
-- column draws: Random controls: twins of the pattern, with random tokens at the same places.
-- column twins_as_strong: Twins that go as far as the pattern, or further.
-- column p: (1 + twins_as_strong) / (1 + draws): how often a pattern of random tokens would be this strong.
-- column p_adjusted: p, corrected for all effects of the run together (Benjamini and Hochberg: of effects with at most q,
--   a share q is expected to be no more than chance).
WITH answers AS (
    SELECT
        c.run_id,
        c.source,
        c.ranking,
        c.label,
        c.place,
        c.pattern,
        a.example_id,
        a.control AS is_control,
        a.draw,
        if(c.ranking = 'drop', a.clean = a.gold, a.clean = c.label)::INTEGER AS clean,
        if(c.ranking = 'drop', a.answer = a.gold, a.answer = c.label)::INTEGER AS attacked
    FROM trigger_choice AS c
    SEMI JOIN selected_runs USING (run_id)
    JOIN trigger_answers AS a USING (run_id, pattern)
    WHERE a.part = 'report' AND (a.gold = c.label) = (c.ranking = 'drop')
),
by_row AS (
    SELECT
        run_id,
        source,
        ranking,
        label,
        place,
        pattern,
        any_value(clean) AS clean,
        avg(attacked) FILTER (NOT is_control) AS inserted,
        avg(attacked) FILTER (is_control) AS control,
        if(ranking = 'drop', control - inserted, inserted - control) AS beyond
    FROM answers
    GROUP BY run_id, source, ranking, label, place, pattern, example_id
),
rows_together AS (
    SELECT
        run_id,
        source,
        ranking,
        label,
        place,
        pattern,
        count(*) AS n,
        avg(clean) AS clean,
        avg(inserted) AS inserted,
        avg(control) AS control,
        avg(beyond) AS over_control,
        -- Rows that all do the same still leave room for one in n that does not.
        greatest(var_samp(beyond), 1 / count(*)) AS variance
    FROM by_row
    GROUP BY ALL
),
twins AS (
    SELECT run_id, source, ranking, label, place, draw, avg(attacked) AS control
    FROM answers
    WHERE is_control
    GROUP BY ALL
),
twins_together AS (
    SELECT
        t.run_id,
        t.source,
        t.ranking,
        t.label,
        t.place,
        count(*) AS draws,
        var_samp(t.control) AS variance,
        count(*) FILTER (if(t.ranking = 'drop', t.control <= r.inserted, t.control >= r.inserted)) AS twins_as_strong
    FROM twins AS t
    JOIN rows_together AS r USING (run_id, source, ranking, label, place)
    GROUP BY ALL
),
tested AS (
    SELECT
        r.* EXCLUDE variance,
        crossed_half(r.variance, r.n, t.variance, t.draws) AS half,
        t.draws,
        t.twins_as_strong,
        (1 + t.twins_as_strong) / (1 + t.draws) AS p
    FROM rows_together AS r
    JOIN twins_together AS t USING (run_id, source, ranking, label, place)
),
counted AS (
    SELECT
        *,
        p * count(*) OVER (PARTITION BY run_id) / count(*) OVER (PARTITION BY run_id ORDER BY p) AS at_this_p
    FROM tested
)
SELECT
    c.run_id,
    c.source,
    c.ranking,
    c.label,
    c.place,
    c.pattern,
    t.tokens,
    c.n,
    c.clean,
    c.inserted,
    c.control,
    c.over_control,
    if(c.half IS NULL, NULL, greatest(-1, c.over_control - c.half)) AS ci_low,
    if(c.half IS NULL, NULL, least(1, c.over_control + c.half)) AS ci_high,
    c.draws,
    c.twins_as_strong,
    c.p,
    least(1, min(c.at_this_p) OVER (PARTITION BY c.run_id ORDER BY c.p DESC)) AS p_adjusted
FROM counted AS c
JOIN trigger_patterns AS t USING (run_id, pattern)
