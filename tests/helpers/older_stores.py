"""Statements that turn a store of today back into one of an earlier schema."""

from __future__ import annotations

from attattr_batch.store.database.migrate import VERSION_TABLE

TO_0007 = (
    "DROP TABLE path_scores",
    "ALTER TABLE masked_answers DROP COLUMN ablation",
    f"UPDATE {VERSION_TABLE} SET version_num = '0007'",
)
TO_0006 = (
    *TO_0007,
    "DROP TABLE attention_peaks",
    "ALTER TABLE head_scores_dedup DROP COLUMN grad_attn",
    "ALTER TABLE tokens DROP COLUMN word",
    *(f"ALTER TABLE {name} DROP COLUMN logits" for name in ("masked_answers", "attacked_answers")),
    f"UPDATE {VERSION_TABLE} SET version_num = '0006'",
)
TO_0004 = (
    *TO_0006,
    "ALTER TABLE job_runs ADD COLUMN query_key TEXT",
    "DROP TABLE job_builds",
    "ALTER TABLE runs DROP COLUMN seals",
    *(
        f"ALTER TABLE {table} RENAME COLUMN {after} TO {before}"
        for table, columns in {
            "runs": {"target": "targets", "nodes": "fixed_nodes"},
            "passes": {
                "config": "settings",
                "n_examples": "n_wanted",
                "status": "pass_status",
                "created_at": "registered_at",
                "sealed_at": "finished_at",
            },
            "quarantine": {"kind": "error"},
            "job_runs": {"status": "result"},
        }.items()
        for before, after in columns.items()
    ),
    "ALTER TABLE quarantine RENAME TO failures",
    *(
        f"ALTER TABLE {name}_dedup RENAME TO {name}_stored"
        for name in ("head_scores", "layer_scores", "target_scores", "edges", "layer_edges")
    ),
    "DROP TABLE masked_answers",
    "DROP TABLE attacked_answers",
    "CREATE TABLE mask_outcomes (run_id INTEGER, job TEXT, example_id INTEGER, mask TEXT, predicted SMALLINT,"
    " prob_gold FLOAT)",
    "CREATE TABLE attack_outcomes (run_id INTEGER, job TEXT, example_id INTEGER, attack TEXT,"
    " predicted SMALLINT, prob_gold FLOAT, truncated BOOLEAN)",
    f"UPDATE {VERSION_TABLE} SET version_num = '0004'",
)
# Of a store of schema 0004.
TO_0002 = (
    "ALTER TABLE job_runs DROP COLUMN query_key",
    "ALTER TABLE head_scores_stored DROP COLUMN taylor_released",
    "ALTER TABLE layer_scores_stored DROP COLUMN certified",
    f"UPDATE {VERSION_TABLE} SET version_num = '0002'",
)
