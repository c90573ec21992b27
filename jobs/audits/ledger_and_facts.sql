-- name: ledger_and_facts
-- description: Every example in a run's ledger has all its facts, and no other example has any.
-- grain: run_id, example_id
-- An example may have any number of edges, and up to two
-- attention peaks. Counts by example are enough: where unique_keys and layer_and_head_range hold,
-- only the right rows give the right counts.
WITH counted AS (
    SELECT l.run_id, l.example_id, 1 AS committed
    FROM ledger AS l
    JOIN passes AS p ON p.pass_id = l.pass_id AND p.kind = 'attribute'
    UNION ALL BY NAME
    SELECT run_id, example_id, count(*) AS predictions FROM predictions GROUP BY ALL
    UNION ALL BY NAME
    SELECT
        run_id,
        example_id,
        count(*) FILTER (target <> 'predicted') AS target_gold,
        count(*) FILTER (target <> 'gold') AS target_predicted
    FROM target_scores_dedup
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT
        run_id,
        example_id,
        count(*) FILTER (target <> 'predicted') AS layer_gold,
        count(*) FILTER (target <> 'gold') AS layer_predicted
    FROM layer_scores_dedup
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT
        run_id,
        example_id,
        count(*) FILTER (target <> 'predicted') AS head_gold,
        count(*) FILTER (target <> 'gold') AS head_predicted
    FROM head_scores_dedup
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT DISTINCT run_id, example_id, 1 AS edges FROM edges_dedup
    UNION ALL BY NAME
    SELECT DISTINCT run_id, example_id, 1 AS layer_edges FROM layer_edges_dedup
    UNION ALL BY NAME
    SELECT DISTINCT run_id, example_id, 1 AS peaks FROM attention_peaks
),
examples_counted AS (
    SELECT
        run_id,
        example_id,
        coalesce(sum(committed), 0) AS committed,
        coalesce(sum(predictions), 0) AS predictions,
        [coalesce(sum(target_gold), 0), coalesce(sum(layer_gold), 0), coalesce(sum(head_gold), 0)] AS of_gold,
        [coalesce(sum(target_predicted), 0), coalesce(sum(layer_predicted), 0), coalesce(sum(head_predicted), 0)]
            AS of_predicted,
        coalesce(sum(edges), 0) AS has_edges,
        coalesce(sum(layer_edges), 0) AS has_layer_edges
    FROM counted
    GROUP BY run_id, example_id
)
SELECT e.*, r.targets, r.n_layers, r.n_heads
FROM examples_counted AS e
LEFT JOIN runs AS r USING (run_id)
WHERE e.committed = 0
    OR r.run_id IS NULL
    OR e.predictions <> 1
    OR e.of_gold <> if(r.targets = 'predicted', [0, 0, 0], [1, r.n_layers, r.n_layers * r.n_heads])
    OR e.of_predicted <> if(r.targets = 'gold', [0, 0, 0], [1, r.n_layers, r.n_layers * r.n_heads])
