-- name: strongest_heads
-- description: The ten heads of each run with the largest attribution.
SELECT r.name AS run, s.layer, s.head, s.attr_max, s.attn_confidence, s.taylor, s.n
FROM head_summary AS s
JOIN runs AS r USING (run_id)
WHERE s.target = if(r.targets = 'predicted', 'predicted', 'gold')
QUALIFY row_number() OVER (PARTITION BY s.run_id ORDER BY s.attr_max DESC) <= 10
ORDER BY s.run_id, s.attr_max DESC
