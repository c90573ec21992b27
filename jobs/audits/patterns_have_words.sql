-- name: patterns_have_words
-- description: A trigger pattern has one to four tokens or words, none of them special, at different positions.
-- depends: trigger_patterns
SELECT run_id, pattern, tokens, positions
FROM trigger_patterns
WHERE len(list_distinct(list_zip(segments, ratios))) NOT BETWEEN 1 AND 4
    OR len(list_distinct(positions)) <> len(positions)
    OR len(token_ids) <> len(positions)
    OR len(ratios) <> len(positions)
    OR list_min(ratios) <= 0
    OR list_max(ratios) > 1
    OR list_contains(list_transform(segments, lambda one: one IS NULL), true)
