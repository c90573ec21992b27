"""The data dictionary (schema/README.md): the comments of the tables and the headers of the views."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, text

from attattr_batch.errors import UserError
from attattr_batch.store.database.migrate import SCHEMA_VERSION, blank_database, view_files
from attattr_batch.store.database.sqlfile import SqlFile
from attattr_batch.store.database.tables import DEDUP_SUFFIX, metadata, query_name

_INTRODUCTION = """\
# Data dictionary

Generated from `attattr_batch/store/database/tables.py` and `schema/views/*.sql` by `make docs`; `make check`
keeps it up to date. Schema version {version}.

Layers, heads and positions count from 0. Labels are the dataset's integer ids; their names stand in
`runs.labels`. Every fact is about one run (`run_id`) and one example (`example_id`). Attributions belong to a
target: the gold or the predicted class. Where the two coincide the numbers are stored once (tables
`*{suffix}`), and the views of the same name without the suffix answer for both: query those.
"""


def dictionary_markdown() -> str:
    """The whole data dictionary as Markdown."""
    tables = sorted(metadata.tables.values(), key=lambda table: table.name)
    views = sorted(view_files(), key=lambda view: view.name)
    parts = [_INTRODUCTION.format(version=SCHEMA_VERSION, suffix=DEDUP_SUFFIX)]
    with blank_database() as connection:
        parts += ["## Views\n"] + [_view_section(connection, view) for view in views]
        parts += ["## Tables\n"] + [_table_section(connection, table) for table in tables]
    return "\n".join(parts)


def meaning(name: str, column: str) -> str:
    """What a column of a table or view (`name` as in queries) means.

    The first of these that says it: the view's header; the table of that query name; other tables with a
    column of that name, where they agree. A table whose key the column is describes the thing itself (a run,
    say), and is asked last.

    Raises:
        UserError: none says it, or tables say different things.
    """
    views = {view.name: view for view in view_files()}
    if name in views and column in views[name].columns:
        return views[name].columns[column]
    having = [table for table in metadata.tables.values() if column in table.columns]
    own = [table for table in having if query_name(table) == name]
    keyless = [table for table in having if table.info["key"] != (column,)]
    said = {str(table.columns[column].comment) for table in own or keyless or having}
    if len(said) != 1:
        what = "a column has no meaning" if not said else "tables differ about the column"
        raise UserError(what, got=f"{name}.{column}", hint="say it: `-- column NAME: ...`")
    return said.pop()


def markdown_table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Markdown table of columns: name, type, meaning."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _view_section(connection: Connection, view: SqlFile) -> str:
    rows = [
        (column, type_, meaning(view.name, column)) for column, type_, _ in described(connection, view.name)
    ]
    grain = f"\n\nOne row per {view.fields['grain']}." if "grain" in view.fields else ""
    return f"### {view.name}\n\n{view.description}{grain}\n\n{markdown_table(rows)}"


def _table_section(connection: Connection, table: Table) -> str:
    note = f" Query the view `{query_name(table)}`." if table.name.endswith(DEDUP_SUFFIX) else ""
    rows = [
        (column, type_ + (", nullable" if nullable else ""), str(table.columns[column].comment))
        for column, type_, nullable in described(connection, table.name)
    ]
    key = ", ".join(table.info["key"])
    return f"### {table.name}\n\n{table.comment}{note}\n\nOne row per {key}.\n\n{markdown_table(rows)}"


def described(connection: Connection, name: str) -> list[tuple[str, str, bool]]:
    """Name, type and nullability of every column of a table or view."""
    rows = connection.execute(text(f'SELECT column_name, column_type, "null" FROM (DESCRIBE {name})')).all()
    return [(column, type_, null == "YES") for column, type_, null in rows]
