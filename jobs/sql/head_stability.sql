-- name: head_stability
-- description: How settled it is which heads are the most important: how often a head is among the top k when the examples
--   are drawn again.
-- grain: run_id, criterion, layer, head
-- materialized: table
-- depends: head_importance, head_replicates
-- audits: stability_is_complete
-- param top_k: integer from 1 = 10; Heads that count as the most important.
-- param consensus: number from 0 to 1 = 0.95; Share of replicates in which a head of the consensus is among them.
-- column criterion: Criterion of importance (head_values).
-- column importance: head_importance.importance.
-- column place: Place by importance, 0 = the most important; equal ones go by layer and head.
-- column in_top: Share of bootstrap replicates over examples (head_replicates) in which the head is among the `top_k`.
-- column in_consensus: Whether that is at least `consensus`.
WITH ranked AS (
    SELECT
        r.run_id,
        r.criterion,
        r.layer,
        r.head,
        row_number() OVER (PARTITION BY r.run_id, r.criterion, r.replicate ORDER BY r.importance DESC, r.layer, r.head) <= $top_k
            AS is_top
    FROM head_replicates AS r
    JOIN selected_runs USING (run_id)
),
counted AS (
    SELECT run_id, criterion, layer, head, count(*) FILTER (is_top) / count(*) AS in_top
    FROM ranked
    GROUP BY ALL
)
SELECT
    c.run_id,
    c.criterion,
    c.layer,
    c.head,
    i.importance,
    (row_number() OVER (PARTITION BY c.run_id, c.criterion ORDER BY i.importance DESC, c.layer, c.head) - 1)::SMALLINT AS place,
    c.in_top,
    c.in_top >= $consensus AS in_consensus
FROM counted AS c
JOIN head_importance AS i USING (run_id, criterion, layer, head)
