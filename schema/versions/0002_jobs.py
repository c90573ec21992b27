"""What jobs need: a log of their runs, and the answers of the passes they order.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INT, SMALL = sa.Integer(), sa.SmallInteger()
FLOAT, TEXT, TIME = sa.REAL(), sa.String(), sa.TIMESTAMP(timezone=True)


def _needed(name, type_, **options):
    return sa.Column(name, type_, nullable=False, autoincrement=False, **options)


def _optional(name, type_):
    return sa.Column(name, type_, nullable=True)


def upgrade() -> None:
    op.create_table("mask_outcomes", *_answer_columns("mask"))
    op.create_table("attack_outcomes", *_answer_columns("attack"), _needed("truncated", sa.Boolean()))
    op.create_table(
        "job_runs",
        _needed("job_run_id", INT, primary_key=True),
        _needed("job", TEXT),
        _needed("params", TEXT),
        _needed("runs", TEXT),
        _needed("status", TEXT),
        _needed("started_at", TIME),
        _needed("finished_at", TIME),
        _optional("rows", INT),
        _optional("error", TEXT),
    )


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")


def _answer_columns(what: str) -> list[sa.Column]:
    return [
        _needed("run_id", INT),
        _needed("job", TEXT),
        _needed("example_id", INT),
        _needed(what, TEXT),
        _needed("predicted", SMALL),
        _optional("prob_gold", FLOAT),
    ]
