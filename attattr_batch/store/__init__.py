"""The database: tables, connection, migrations, ingest, queries, export.

DuckDB is imported here only, and Alembic here and in schema/; elsewhere SQLAlchemy is used on connections
from here. Import the modules directly; nothing is re-exported, so that the console's child process starts
without SQLAlchemy.
"""
