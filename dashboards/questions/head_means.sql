-- name: head_means
-- description: Mean score of every head of a run over the examples committed so far, of one gold class or of all.
SELECT
    $run AS run,
    $criterion AS criterion,
    s.layer,
    s.head,
    avg(CASE $criterion WHEN 'attattr' THEN s.attr_max WHEN 'taylor' THEN s.taylor ELSE s.attn_confidence END)::DOUBLE
        AS importance,
    count(*) AS n,
    NULL::DOUBLE AS ci_low,
    NULL::DOUBLE AS ci_high
FROM head_scores AS s
JOIN predictions AS p USING (run_id, example_id)
WHERE s.run_id = $run_id AND s.target = $class AND p.gold IS NOT DISTINCT FROM coalesce($gold, p.gold)
GROUP BY s.layer, s.head
ORDER BY s.layer, s.head
