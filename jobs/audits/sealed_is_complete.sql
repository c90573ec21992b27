-- name: sealed_is_complete
-- description: Every example of a sealed pass is committed or quarantined.
-- grain: pass_id
SELECT pass_id, run_id, run, kind, committed, failed, total
FROM progress
WHERE status = 'sealed' AND committed + failed <> total
