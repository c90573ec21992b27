-- name: committed_has_prediction
-- description: Every example that an attribution pass committed has a prediction.
-- grain: run_id, example_id
SELECT l.run_id, l.example_id, l.chunk, l.committed_at
FROM ledger AS l
JOIN passes AS p ON p.pass_id = l.pass_id AND p.kind = 'attribute'
ANTI JOIN predictions AS c ON c.run_id = l.run_id AND c.example_id = l.example_id
