"""Class scores of requested answers, gradient times attention, words of tokens, and the strongest attention.

Runs and answers of an earlier release have null there, and no rows of `attention_peaks`.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for answers in ("masked_answers", "attacked_answers"):
        op.add_column(answers, sa.Column("logits", sa.ARRAY(sa.REAL()), nullable=True))
    op.add_column("head_scores_dedup", sa.Column("grad_attn", sa.REAL(), nullable=True))
    op.add_column("tokens", sa.Column("word", sa.SmallInteger(), nullable=True))
    op.create_table(
        "attention_peaks",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("example_id", sa.Integer(), nullable=False),
        sa.Column("peak", sa.SmallInteger(), nullable=False),
        sa.Column("layer", sa.SmallInteger(), nullable=False),
        sa.Column("head", sa.SmallInteger(), nullable=False),
        sa.Column("query_pos", sa.SmallInteger(), nullable=False),
        sa.Column("key_pos", sa.SmallInteger(), nullable=False),
        sa.Column("attn", sa.REAL(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")
