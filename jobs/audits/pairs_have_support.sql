-- name: pairs_have_support
-- description: A token pair has at least as many edges as examples, positive attribution, and shares that add up to 1.
-- depends: token_pairs
SELECT run_id, query_token, key_token, query, key, sum(share) AS shares, min(support) AS least
FROM token_pairs
GROUP BY run_id, query_token, key_token, query, key
HAVING abs(sum(share) - 1) > 1e-9 OR min(support) < 1 OR bool_or(n_edges < support) OR min(mean_attr) <= 0
