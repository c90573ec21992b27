-- name: importance
-- description: Importance of every head by criterion, layer by head, with its interval over examples.
-- depends: head_importance
SELECT r.name AS run, h.criterion, h.layer, h.head, h.importance, h.n, h.ci_low, h.ci_high
FROM head_importance AS h
JOIN runs AS r USING (run_id)
WHERE list_contains($runs, h.run_id) AND h.criterion <> 'random'
ORDER BY h.run_id, h.criterion, h.layer, h.head
