"""Which query a job was built with, so that what came of an earlier one is built again.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_runs", sa.Column("query_key", sa.String(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")
