-- name: distance
-- description: How far apart the tokens are that an attribution tree joins, by layer: share of the layer's edges (trees of
--   the authors' released procedure).
-- depends: interaction_distance
SELECT
    r.name AS run,
    d.layer,
    d.distance,
    CASE d.within_segment WHEN true THEN 'within a text' WHEN false THEN 'across the texts' ELSE 'to a special token' END
        AS link,
    d.n,
    d.n / sum(d.n) OVER (PARTITION BY d.run_id, d.layer) AS share
FROM interaction_distance AS d
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, d.run_id) AND d.variant = 'released' AND d.layer IS NOT NULL
-- Kinds of link in the order in which they are drawn.
ORDER BY d.within_segment DESC NULLS LAST, d.run_id, d.layer, d.distance
