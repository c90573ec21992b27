"""Names that collided or hid what is inside; what a mask or an attack is, as columns instead of a text.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INT, SMALL = sa.Integer(), sa.SmallInteger()
FLOAT, TEXT = sa.REAL(), sa.String()

COLUMNS = {
    "runs": {"target": "targets", "nodes": "fixed_nodes"},
    "passes": {
        "config": "settings",
        "n_examples": "n_wanted",
        "status": "pass_status",
        "created_at": "registered_at",
        "sealed_at": "finished_at",
    },
    "failures": {"kind": "error"},
    "job_runs": {"status": "result"},
}
TABLES = {"failures": "quarantine"} | {
    f"{name}_stored": f"{name}_dedup"
    for name in ("head_scores", "layer_scores", "target_scores", "edges", "layer_edges")
}

# A text of three jobs says what the mask is; that of a job of one's own is kept whole, as the criterion.
MASKS = """
INSERT INTO masked_answers BY NAME
SELECT
    run_id,
    job,
    example_id,
    CASE
        WHEN job IN ('pruned_accuracy', 'layerwise_accuracy') THEN parts[1]
        WHEN job <> 'head_ablation' THEN mask
    END AS criterion,
    CASE WHEN job = 'layerwise_accuracy' THEN parts[2] END AS direction,
    CASE WHEN job = 'pruned_accuracy' THEN parts[2]::INTEGER END AS draw,
    CASE WHEN job IN ('pruned_accuracy', 'layerwise_accuracy') THEN parts[3]::INTEGER END AS step,
    CASE WHEN job = 'head_ablation' AND mask <> 'clean' THEN parts[1]::SMALLINT END AS layer,
    CASE WHEN job = 'head_ablation' AND mask <> 'clean' THEN parts[2]::SMALLINT END AS head,
    predicted,
    prob_gold
FROM (SELECT *, string_split(mask, '/') AS parts FROM mask_outcomes)
"""

# The number of a pattern was run_id * 1000000 + the example, of which each whole million counted 10^15.
# Attacks of a job of one's own are numbered in the order of their names.
NUMBER = "(pattern_id - run_id * 1000000::BIGINT)"
PATTERN = f"({NUMBER} % 1000000000000000 + {NUMBER} // 1000000000000000 * 1000000)::INTEGER"
ATTACKS = """
INSERT INTO attacked_answers BY NAME
SELECT
    run_id,
    job,
    example_id,
    CASE
        WHEN number IS NOT NULL THEN number % 1000000000000000 + number // 1000000000000000 * 1000000
        ELSE dense_rank() OVER (PARTITION BY run_id, job ORDER BY attack) - 1
    END AS pattern,
    coalesce(number IS NOT NULL AND parts[2] = 'control', false) AS control,
    CASE WHEN control THEN parts[3]::INTEGER END AS draw,
    predicted,
    prob_gold,
    truncated
FROM (
    SELECT
        *,
        string_split(attack, '/') AS parts,
        CASE
            WHEN job IN ('trigger_selection', 'trigger_report')
            THEN parts[1]::BIGINT - run_id * 1000000::BIGINT
        END AS number
    FROM attack_outcomes
)
"""


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for before, after in columns.items():
            op.execute(f'ALTER TABLE {table} RENAME COLUMN "{before}" TO {after}')
    for before, after in TABLES.items():
        op.execute(f"ALTER TABLE {before} RENAME TO {after}")
    for before, after in (("masked_accuracy", "masked_answers"), ("attack", "attacked_answers")):
        op.execute(f"UPDATE passes SET kind = '{after}' WHERE kind = '{before}'")
    _create_answers()
    op.execute(MASKS)
    op.execute(ATTACKS)
    op.drop_table("mask_outcomes")
    op.drop_table("attack_outcomes")
    _rename_in_tables_of_jobs()


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")


def _rename_in_tables_of_jobs() -> None:
    """The tables about triggers, as far as they are built, and the view that reads stored answers."""
    query = "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
    there = {tuple(row) for row in op.get_bind().exec_driver_sql(query).all()}
    # Only a job built it, which builds it again.
    op.execute("DROP VIEW IF EXISTS head_values")
    if ("trigger_effects", "pattern") in there:
        op.execute("ALTER TABLE trigger_effects RENAME COLUMN pattern TO inserted")
    for table in ("trigger_choice", "trigger_attacks", "trigger_effects"):
        if (table, "pattern_id") in there:
            op.execute(f"ALTER TABLE {table} ALTER pattern_id TYPE INTEGER USING {PATTERN}")
            op.execute(f"ALTER TABLE {table} RENAME COLUMN pattern_id TO pattern")
    if ("trigger_patterns", "source_example_id") in there:
        op.execute("ALTER TABLE trigger_patterns DROP COLUMN pattern_id")
        op.execute("ALTER TABLE trigger_patterns RENAME COLUMN source_example_id TO pattern")


def _needed(name, type_):
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def _optional(name, type_):
    return sa.Column(name, type_, nullable=True)


def _create_answers() -> None:
    asked = ("run_id", INT), ("job", TEXT), ("example_id", INT)
    op.create_table(
        "masked_answers",
        *(_needed(name, type_) for name, type_ in asked),
        _optional("criterion", TEXT),
        _optional("direction", TEXT),
        _optional("draw", INT),
        _optional("step", INT),
        _optional("layer", SMALL),
        _optional("head", SMALL),
        _needed("predicted", SMALL),
        _optional("prob_gold", FLOAT),
    )
    op.create_table(
        "attacked_answers",
        *(_needed(name, type_) for name, type_ in asked),
        _needed("pattern", INT),
        _needed("control", sa.Boolean()),
        _optional("draw", INT),
        _needed("predicted", SMALL),
        _optional("prob_gold", FLOAT),
        _needed("truncated", sa.Boolean()),
    )
