"""The released code's Taylor scores, and whether an integral met what the adaptive rule asks for.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("head_scores_stored", sa.Column("taylor_released", sa.REAL(), nullable=True))
    op.add_column("layer_scores_stored", sa.Column("certified", sa.Boolean(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")
