"""Attribution along other paths, and what stands in place of removed heads.

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("masked_answers", sa.Column("ablation", sa.String(), nullable=True))
    op.create_table(
        "path_scores",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("example_id", sa.Integer(), nullable=False),
        sa.Column("criterion", sa.String(), nullable=False),
        sa.Column("layer", sa.SmallInteger(), nullable=False),
        sa.Column("head", sa.SmallInteger(), nullable=False),
        sa.Column("attr_max", sa.REAL(), nullable=True),
        sa.Column("attr_positive_sum", sa.REAL(), nullable=True),
        sa.Column("attr_sum", sa.REAL(), nullable=False),
        sa.Column("f_full", sa.REAL(), nullable=False),
        sa.Column("f_zero", sa.REAL(), nullable=False),
        sa.Column("completeness_error", sa.REAL(), nullable=True),
        sa.Column("path_error", sa.REAL(), nullable=False),
        sa.Column("nodes", sa.SmallInteger(), nullable=False),
        sa.Column("certified", sa.Boolean(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")
