"""What each job was last built from for each run, by content; how often a run was sealed.

Builds of an earlier release keep their parameters. What they were built from is not known, so their key is
empty, and each is built again once, when it is asked for or a job that it depends on is.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The latest build of each job for each run. A run of that name that was registered later is another one.
EARLIER_BUILDS = """
INSERT INTO job_builds (job, run_id, build_key, params)
WITH built AS (
    SELECT job_run_id, job, params, started_at, unnest(from_json(runs, '["VARCHAR"]')) AS name
    FROM job_runs
    WHERE result = 'built'
)
SELECT b.job, r.run_id, '', b.params
FROM built AS b
JOIN runs AS r ON r.name = b.name AND r.created_at <= b.started_at
QUALIFY row_number() OVER (PARTITION BY b.job, r.run_id ORDER BY b.job_run_id DESC) = 1
"""


def upgrade() -> None:
    op.add_column("runs", sa.Column("seals", sa.Integer(), nullable=True))
    op.create_table(
        "job_builds",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("build_key", sa.String(), nullable=False),
        sa.Column("params", sa.String(), nullable=False),
    )
    op.execute(EARLIER_BUILDS)
    op.drop_column("job_runs", "query_key")


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")
