-- name: example_answer
-- description: The answer to the example $example_id of the run $run_id, whether its class $target is attributed, and then the top node of its tree.
SELECT p.gold, p.predicted, t.target IS NOT NULL AS attributed, t.tree_top
FROM predictions AS p
LEFT JOIN target_scores AS t
    ON t.run_id = p.run_id AND t.example_id = p.example_id AND t.target = $target
WHERE p.run_id = $run_id AND p.example_id = $example_id
