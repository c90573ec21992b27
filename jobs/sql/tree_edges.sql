-- name: tree_edges
-- description: The attribution tree of every example (paper, section 5): from the top node downwards, layer by
--   layer, an edge is added when it is strong enough, its parent is in the tree and its child is not yet. On request over
--   words: each layer's edges are first summed over the pieces of two words, and scaled by the largest such sum. A word
--   stands at the position of its first piece; a special token is a word of its own; the top node is the word of the token
--   that would be it. Edges too weak to be stored (the run's `edge_floor`) are missing from the sums.
-- grain: run_id, example_id, target, variant, query_pos, key_pos
-- materialized: table
-- depends: layer_edges, layer_scores, target_scores, tokens
-- audits: tree_nodes_have_one_parent, trees_are_connected
-- param tau: number from 0 to 1 = 0.4; Threshold, as a share of the layer's largest entry over query rows >= 1.
-- param target: gold|predicted = gold; Class whose attribution is drawn; of a run with the predicted class alone, that.
-- param example_id: integer from 0 = null; One example alone; null for every one.
-- param units: pieces|words = pieces; Nodes of a tree: tokens, or whole words (no rows of runs of an earlier release).
-- column variant: `released` (the authors' code: the last layer gives no edges, the one before it only those of the top
--   node) or `greedy` (from the same top node and at the same scale, but the sweep starts in the last layer, with threshold
--   0, and any node may be a parent; at the end the first token is linked to every node). Neither is algorithm 1 as the
--   paper prints it: its top node needs sums of whole rows, the first one and negative entries included, which no table has.
-- column tau: Threshold used.
-- column target: Class attributed: `gold` or `predicted`.
-- column layer: Layer of the edge; null for the closing links of `greedy` trees from the first token.
-- column query_pos: Parent: position of the attending token.
-- column key_pos: Child: position of the attended token.
-- column attr: Attribution of the edge, summed over heads; null for closing links.
-- column top: Position of the tree's top node.
-- column capped: Whether the tree may lack edges: of one of its layers the run's `edge_cap` edges are stored, and the weakest
--   of them still reaches the threshold. In the last layer of a `greedy` tree, which has no threshold, any will do; of a
--   model that classifies by its first token that layer has edges of this token alone, which no tree takes. Of words, whose
--   sums any missing edge may change, a layer at the `edge_cap` is enough. A tree without
--   edges has no row; `attattr tree` says it of those too.
WITH variants AS (
    SELECT unnest(['released', 'greedy']) AS variant
),
words AS (
    FROM word_pieces($units)
),
tops AS (
    SELECT
        t.run_id,
        t.example_id,
        t.target,
        coalesce(w.word_pos, t.tree_top) AS top,
        r.n_layers,
        json_extract_string(r.config, '$.edge_cap')::INTEGER AS edge_cap
    FROM target_scores AS t
    JOIN selected_runs AS r USING (run_id)
    LEFT JOIN words AS w ON w.run_id = t.run_id AND w.example_id = t.example_id AND w.position = t.tree_top
    WHERE t.target = if(r.targets = 'predicted', 'predicted', $target)
        AND t.tree_top IS NOT NULL
        AND ($example_id IS NULL OR t.example_id = $example_id)
        AND ($units = 'pieces' OR t.run_id IN (SELECT run_id FROM words))
),
summed AS (
    SELECT
        e.run_id,
        e.example_id,
        e.target,
        e.layer,
        coalesce(q.word_pos, e.query_pos) AS query_pos,
        coalesce(k.word_pos, e.key_pos) AS key_pos,
        exact_sum(e.attr)::FLOAT AS attr,
        count(*) AS n_stored
    FROM layer_edges AS e
    LEFT JOIN words AS q ON q.run_id = e.run_id AND q.example_id = e.example_id AND q.position = e.query_pos
    LEFT JOIN words AS k ON k.run_id = e.run_id AND k.example_id = e.example_id AND k.position = e.key_pos
    WHERE $units = 'words'
    GROUP BY ALL
),
matrix AS (
    SELECT e.run_id, e.example_id, e.target, e.layer, e.query_pos, e.key_pos, e.attr, 1 AS n_stored, s.off_first_max AS scale
    FROM layer_edges AS e
    JOIN layer_scores AS s USING (run_id, example_id, target, layer)
    WHERE $units = 'pieces'
    UNION ALL
    SELECT *, max(attr) FILTER (query_pos >= 1) OVER (PARTITION BY run_id, example_id, target, layer) FROM summed
),
scaled AS (
    SELECT
        e.*,
        t.top,
        t.n_layers - 1 AS last,
        t.edge_cap,
        e.attr::DOUBLE / nullif(abs(e.scale), 0) AS share,
        -- A tree below the floor of the stored edges would lack edges without saying so.
        if(e.layer < t.n_layers - 1 AND $tau * abs(s.off_first_max) < s.edge_floor * 0.999,
            error('tau ' || $tau || ' is below the stored edges'' floor (edge_floor of the run)'), true) AS certain
    FROM matrix AS e
    JOIN tops AS t USING (run_id, example_id, target)
    JOIN layer_scores AS s USING (run_id, example_id, target, layer)
),
candidates AS (
    SELECT v.variant, s.*
    FROM scaled AS s
    CROSS JOIN variants AS v
    WHERE s.certain AND s.query_pos >= 1 AND s.query_pos <> s.key_pos
        AND CASE
            WHEN v.variant = 'released' AND s.layer = s.last THEN false
            WHEN v.variant = 'released' AND s.layer = s.last - 1 THEN s.query_pos = s.top AND s.share > $tau
            WHEN s.layer = s.last THEN s.attr > 0
            ELSE s.share >= $tau
        END
),
held AS (
    SELECT run_id, example_id, target, layer, last, sum(n_stored) >= any_value(edge_cap) AS at_cap, min(share) AS weakest
    FROM scaled
    GROUP BY ALL
),
cut AS (
    SELECT DISTINCT h.run_id, h.example_id, h.target, v.variant
    FROM held AS h
    CROSS JOIN variants AS v
    WHERE h.at_cap AND if(h.layer = h.last, v.variant = 'greedy', $units = 'words' OR h.weakest >= $tau)
),
ordered AS (
    -- Nodes in the tree, and its edges: one candidate is a tree of two nodes and one edge.
    SELECT
        run_id,
        example_id,
        target,
        variant,
        list(
            {
                'nodes': [query_pos, key_pos],
                'edges': [{'layer': layer, 'query_pos': query_pos, 'key_pos': key_pos, 'attr': attr}]
            }
            ORDER BY layer DESC, query_pos, key_pos
        ) AS steps
    FROM candidates
    GROUP BY ALL
),
grown AS (
    SELECT
        t.run_id,
        t.example_id,
        t.target,
        v.variant,
        t.top,
        list_reduce(
            coalesce(o.steps, []),
            lambda tree, step: CASE
                WHEN list_contains(tree.nodes, step.nodes[1]) AND NOT list_contains(tree.nodes, step.nodes[2])
                THEN {'nodes': list_append(tree.nodes, step.nodes[2]), 'edges': tree.edges || step.edges}
                ELSE tree
            END,
            {'nodes': [t.top], 'edges': []}
        ) AS tree
    FROM tops AS t
    CROSS JOIN variants AS v
    LEFT JOIN ordered AS o USING (run_id, example_id, target, variant)
),
swept AS (
    SELECT run_id, example_id, target, variant, top, unnest(tree.edges, recursive := true) FROM grown
),
closing AS (
    SELECT run_id, example_id, target, variant, top, unnest(tree.nodes) AS key_pos FROM grown WHERE variant = 'greedy'
),
trees AS (
    SELECT run_id, example_id, target, variant, $tau::DOUBLE AS tau, layer, query_pos, key_pos, attr, top
    FROM swept
    UNION ALL
    SELECT run_id, example_id, target, variant, $tau::DOUBLE, NULL, 0, key_pos, NULL, top
    FROM closing
    WHERE key_pos <> 0
)
SELECT trees.*, cut.variant IS NOT NULL AS capped
FROM trees
LEFT JOIN cut USING (run_id, example_id, target, variant)
