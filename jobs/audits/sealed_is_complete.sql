-- name: sealed_is_complete
-- description: Sealed passes that lack examples: neither committed nor quarantined.
-- grain: pass_id
SELECT pass_id, run_id, run, kind, committed, failed, total
FROM progress
WHERE status = 'sealed' AND committed + failed <> total
