"""The database: tables, connection, migrations, ingest, queries, export.

SQLAlchemy, DuckDB and Alembic are used here only. Import the modules directly; nothing is re-exported,
so that the console's child process starts without SQLAlchemy.
"""
