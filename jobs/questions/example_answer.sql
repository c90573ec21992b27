-- name: example_answer
-- description: The answer to the example $example_id of the run $run_id, and the top node of its tree for the class $target.
SELECT p.gold, p.predicted, t.tree_top
FROM predictions AS p
JOIN target_scores AS t USING (run_id, example_id)
WHERE p.run_id = $run_id AND p.example_id = $example_id AND t.target = $target
