-- name: heads
-- description: Importance of every head by criterion, layer by head. Criteria that need a job come once `head_importance`
--   is built; until then the means over the examples committed so far stand for the others.
-- depends: head_summary
WITH chosen AS (
    SELECT run_id, name AS run, if(targets = 'predicted', 'predicted', 'gold') AS target
    FROM runs
    WHERE list_contains($runs, run_id)
),
means AS (
    UNPIVOT (
        SELECT c.run, s.layer, s.head, s.n, s.attr_max AS attattr, s.taylor, s.attn_confidence AS attention
        FROM head_summary AS s
        JOIN chosen AS c USING (run_id, target)
    ) ON attattr, taylor, attention INTO NAME criterion VALUE importance
)
SELECT run, criterion, layer, head, importance, n, NULL::DOUBLE AS ci_low, NULL::DOUBLE AS ci_high
FROM means
ORDER BY ALL
