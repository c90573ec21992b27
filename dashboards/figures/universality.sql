-- name: universality
-- description: How alike the importance of heads is in every two runs: correlation over all heads, by criterion.
-- depends: head_universality
SELECT a.name AS run_a, b.name AS run_b, u.criterion, u.pearson, u.spearman, u.topk_jaccard, u.n_heads, u.ci_low, u.ci_high
FROM head_universality AS u
JOIN runs AS a ON a.run_id = u.run_a
JOIN runs AS b ON b.run_id = u.run_b
WHERE list_contains($runs, u.run_a) AND list_contains($runs, u.run_b)
ORDER BY u.criterion, u.run_a, u.run_b
