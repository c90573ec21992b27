-- name: triggers
-- description: What the chosen trigger patterns do on rows that did not choose them: share of rows answered correctly
--   (drop), or with the pattern's class (push): without an insertion, with random tokens at the same places, with the
--   pattern. Patterns mined by attention stand below those mined by attribution.
-- depends: trigger_effects, trigger_patterns
SELECT
    r.name AS run,
    e.ranking,
    e.source,
    r.labels[e.label + 1] AS class,
    e.place,
    array_to_string(e.tokens, ' ') AS pattern,
    r.labels[t.predicted + 1] AS argues_for,
    -- The same words may have been mined for two classes, and by attention too.
    r.labels[e.label + 1] || ': ' || array_to_string(e.tokens, ' ') || CASE
        WHEN count(*) OVER (PARTITION BY e.run_id, e.source, e.ranking, e.label, e.tokens) > 1
            THEN ' (for ' || r.labels[t.predicted + 1] || ')'
        ELSE ''
    END || if(e.source = 'attention', ' (by attention)', '') AS label,
    e.n,
    e.clean,
    e.control,
    e.inserted,
    e.over_control,
    e.ci_low,
    e.ci_high,
    e.draws,
    e.twins_as_strong,
    e.p,
    e.p_adjusted
FROM trigger_effects AS e
JOIN runs AS r USING (run_id)
JOIN trigger_patterns AS t USING (run_id, pattern)
WHERE list_contains($runs, e.run_id)
ORDER BY e.run_id, e.ranking, e.label, e.source DESC, e.place
