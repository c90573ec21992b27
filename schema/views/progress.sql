-- name: progress
-- description: How far every pass is, and how fast it went.
-- grain: pass_id
-- column run: Name of the run (runs.name).
-- column kind: `attribute`, `masked_answers`, `attacked_answers` or `path_scores`.
-- column job: Job that requested the pass; null for `attribute`.
-- column status: `running`, or `sealed` once every example is committed or quarantined.
-- column committed: Examples committed.
-- column quarantined: Examples that failed every attempt.
-- column total: Examples that the pass has to handle.
-- column share: (committed + quarantined) / total; null for a pass without examples.
-- column first_commit: When the first chunk was committed.
-- column last_commit: When the latest chunk was committed.
-- column examples_per_second: Examples per second between the first and the latest commit, pauses included; null
--   until there are two commits.
WITH commits AS (
    SELECT pass_id, committed_at, count(*) AS n FROM ledger GROUP BY pass_id, committed_at
),
committed AS (
    SELECT
        pass_id,
        sum(n)::BIGINT AS committed,
        min(committed_at) AS first_commit,
        max(committed_at) AS last_commit,
        -- The first chunk's examples were computed before the clock of this figure starts.
        (sum(n) - arg_min(n, committed_at)) / nullif(epoch(max(committed_at)) - epoch(min(committed_at)), 0)
            AS examples_per_second
    FROM commits
    GROUP BY pass_id
),
failed AS (
    SELECT pass_id, count(*) AS quarantined FROM quarantine GROUP BY pass_id
)
SELECT
    p.pass_id,
    p.run_id,
    r.name AS run,
    p.kind,
    p.settings::JSON ->> '$.job' AS job,
    p.pass_status AS status,
    coalesce(c.committed, 0) AS committed,
    coalesce(f.quarantined, 0) AS quarantined,
    p.n_wanted AS total,
    (coalesce(c.committed, 0) + coalesce(f.quarantined, 0)) / nullif(p.n_wanted, 0) AS share,
    c.first_commit,
    c.last_commit,
    c.examples_per_second
FROM passes AS p
JOIN runs AS r USING (run_id)
LEFT JOIN committed AS c USING (pass_id)
LEFT JOIN failed AS f USING (pass_id)
