-- name: sealed_is_complete
-- description: Every example of a sealed pass is committed or quarantined.
-- grain: pass_id
SELECT pass_id, run_id, run, kind, committed, quarantined, total
FROM progress
WHERE status = 'sealed' AND committed + quarantined <> total
