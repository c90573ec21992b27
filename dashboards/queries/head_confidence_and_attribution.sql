-- name: head_confidence_and_attribution
-- description: Whether confident heads are important ones: draw attention confidence (x) against attribution (y) as points.
SELECT r.name AS run, s.layer, s.head, s.attn_confidence AS confidence, s.attr_max AS attribution
FROM head_summary AS s
JOIN runs AS r USING (run_id)
WHERE s.target = if(r.targets = 'predicted', 'predicted', 'gold')
ORDER BY r.run_id, s.layer, s.head
