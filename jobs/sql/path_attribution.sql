-- name: path_attribution
-- description: Requests the attribution of heads along other paths than the paper's, from other baselines and with other
--   weights, for the gold class of a sample of the ranking rows.
-- grain: run_id, example_id, criterion, layer, head
-- materialized: path_scores
-- depends: splits, mean_rows
-- labels: needed
-- audits: path_scores_are_answered, path_scores_are_complete, path_scores_start_clean, head_paths_match_ablation
-- param variants: none|layer|all|uniform|mean|head|idg = layer; Which to compute; `layer` is `uniform`, `mean` and `idg`. `head` costs as many attributions as a layer has heads, each other one.
-- param path_rows: integer from 1 = 100; Ranking rows of each run, at most.
-- param seed: integer = 0; Seed of every random choice.
WITH ranking AS (
    SELECT
        run_id,
        example_id,
        row_number() OVER (PARTITION BY run_id ORDER BY uniform(concat_ws('/', 'paths', $seed, example_id)), example_id) AS place
    FROM splits
    JOIN selected_runs USING (run_id)
    WHERE purpose = 'pruning' AND part = 'ranking'
),
sampled AS (
    SELECT run_id, list(example_id::BIGINT ORDER BY example_id) AS example_ids
    FROM ranking
    WHERE place <= $path_rows
    GROUP BY run_id
)
SELECT s.run_id, concat('attattr_', variant) AS criterion, s.example_ids, if(variant = 'mean', m.mean_over, NULL) AS mean_over
FROM sampled AS s
JOIN mean_rows AS m USING (run_id)
CROSS JOIN (SELECT unnest(['uniform', 'mean', 'head', 'idg']) AS variant)
WHERE $variants IN ('all', variant) OR ($variants = 'layer' AND variant <> 'head')
