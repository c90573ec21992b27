"""Tables of jobs with made-up numbers, in the jobs' own form (jobs/sql): for measuring what reads them."""

from __future__ import annotations

JOB_TABLES = {
    "head_importance": """
        SELECT run_id, criterion, layer, head, importance, n,
            0.9e0 * importance AS ci_low, 1.1e0 * importance AS ci_high
        FROM (
            UNPIVOT (
                SELECT run_id, layer, head, n, attr_max AS attattr, taylor, attn_confidence AS attention,
                    attr_sum AS accuracy_difference
                FROM head_summary
                WHERE target = 'gold'
            ) ON attattr, taylor, attention, accuracy_difference INTO NAME criterion VALUE importance
        )""",
    "head_universality": """
        SELECT a.run_id AS run_a, b.run_id AS run_b, criterion,
            corr(a.importance, b.importance) AS pearson, pearson AS spearman, count(*) AS n_heads,
            0.1e0 AS topk_jaccard, -0.2e0 AS ci_low, 0.2e0 AS ci_high
        FROM head_importance AS a
        JOIN head_importance AS b USING (criterion, layer, head)
        GROUP BY a.run_id, b.run_id, criterion""",
    "pruning_curve": """
        SELECT run_id, criterion, tenth / 10 AS fraction, tenth * 14 AS n_pruned,
            5000 - 300 * tenth AS correct, 9815 AS n, correct / n AS accuracy,
            accuracy - 0.01e0 AS ci_low, accuracy + 0.01e0 AS ci_high, accuracy AS balanced_accuracy,
            accuracy AS prob_gold, 0.35e0 AS majority, 1 AS draws
        FROM (SELECT DISTINCT run_id, criterion FROM head_importance), range(10) AS tenths(tenth)""",
    "pruning_area": """
        SELECT run_id, criterion, 'accuracy' AS measure, 0.5e0 AS area, 0.4e0 AS ci_low, 0.6e0 AS ci_high,
            0.1e0 AS over_random, 0.0e0 AS over_random_low, 0.2e0 AS over_random_high, 20 AS draws
        FROM (SELECT DISTINCT run_id, criterion FROM head_importance)""",
    "faithfulness": """
        SELECT run_id, criterion, 'prob_gold' AS measure, 0.5e0 AS cpr, 0.4e0 AS cpr_low, 0.6e0 AS cpr_high,
            0.1e0 AS cpr_over_random, 0.5e0 AS cmd, 0.4e0 AS cmd_low, 0.6e0 AS cmd_high,
            -0.1e0 AS cmd_over_random, 0.7e0 AS rank_agreement, 500 AS n, 'zero' AS ablation
        FROM (SELECT DISTINCT run_id, criterion FROM head_importance)""",
    "top_heads": """
        SELECT run_id, criterion, size AS sample_size, size = 500 AS is_own, 0.8e0 AS jaccard,
            0.6e0 AS jaccard_low, 1e0 AS jaccard_high, 0.2e0 AS same, 5 AS consensus
        FROM (SELECT DISTINCT run_id, criterion FROM head_importance),
            (VALUES (20), (100), (500), (2000)) AS sizes(size)""",
    "effectiveness": """
        SELECT run_id, criterion, direction, k, 9000 - 500 * k AS correct, 9815 AS n, correct / n AS accuracy,
            accuracy - 0.01e0 AS ci_low, accuracy + 0.01e0 AS ci_high
        FROM runs, (VALUES ('attattr'), ('attention')) AS c(criterion),
            (VALUES ('largest_first'), ('smallest_first')) AS d(direction), range(12) AS removed(k)""",
    "trigger_patterns": """
        SELECT run_id, example AS pattern, 'attribution' AS source, example AS example_id,
            3 AS layer, 5 AS head, ['w1', 'w2'] AS tokens, [4, 9] AS positions,
            0.3e0 AS value_1, 0.2e0 AS value_2, example % 3 AS predicted, example % 3 AS gold
        FROM runs, range(100) AS examples(example)""",
    "trigger_attacks": """
        SELECT run_id, pattern, source, label AS gold, control, 'report' AS part, 1000 AS n,
            900 AS clean_correct,
            if(control, 890, 300) AS correct, if(control, 50, 600) AS pushed,
            0.2e0 AS accuracy_low, 0.9e0 AS accuracy_high, 0.1e0 AS push_low, 0.7e0 AS push_high
        FROM trigger_patterns, range(3) AS labels(label), (VALUES (true), (false)) AS c(control)
        WHERE pattern < 9""",
    "trigger_effects": """
        SELECT run_id, ranking, source, label, pattern AS place, pattern, tokens, 1000 AS n,
            0.9e0 AS clean, 0.85e0 AS control, 0.3e0 AS inserted, 0.55e0 AS over_control,
            0.5e0 AS ci_low, 0.6e0 AS ci_high, 20 AS draws,
            0 AS twins_as_strong, 0.05e0 AS p, 0.1e0 AS p_adjusted
        FROM trigger_patterns, (VALUES ('drop'), ('push')) AS r(ranking), range(3) AS labels(label)
        WHERE pattern < 3""",
}
"""Query of every table, in the order in which they build on each other."""
