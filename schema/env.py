"""Alembic's environment: migrations run on the connection that store.database.migrate hands over."""

from alembic import context

from attattr_batch.store.database.migrate import VERSION_TABLE
from attattr_batch.store.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
