-- name: splits_have_answers
-- description: Every row of a split has an answer with a gold label.
-- depends: splits
SELECT s.*
FROM splits AS s
ANTI JOIN (SELECT run_id, example_id FROM predictions WHERE gold IS NOT NULL) AS p
    ON p.run_id = s.run_id AND p.example_id = s.example_id
