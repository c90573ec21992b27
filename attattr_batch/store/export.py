"""A run as Parquet files, equal byte for byte for equal contents.

Rows are ordered by their key, and columns that hold wall-clock or machine facts are left out. The run itself,
with its times and provenance, goes to run.json.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import Connection, Row, text

from attattr_batch.errors import StoreError
from attattr_batch.store.connection import Store, raw
from attattr_batch.store.dictionary import markdown_table, meaning
from attattr_batch.store.migrate import SCHEMA_VERSION
from attattr_batch.store.runs import resolve_run
from attattr_batch.store.tables import metadata, query_name, runs, vocabulary

_FORMAT = "attattr_batch export 1"
_MARKER = "run.json"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class _Part:
    """One Parquet file: what to select of a table or view, and in which order."""

    name: str
    columns: tuple[str, ...]
    order: tuple[str, ...]

    def query(self, condition: str) -> str:
        columns = ", ".join(f'"{column}"' for column in self.columns)
        order = ", ".join(f'"{column}"' for column in self.order)
        return f"SELECT {columns} FROM {self.name} WHERE {condition} ORDER BY {order}"


def export_run(store: Store, name_or_id: str | int, folder: str | Path) -> list[Path]:
    """Writes every table's and attribution view's rows of one run to `folder`, one Parquet file each.

    Args:
        store: The store.
        name_or_id: The run.
        folder: Where to; made if missing. An earlier export there is replaced.

    Returns:
        The files written: Parquet files, README.md with every column's meaning, run.json.

    Raises:
        StoreError: there is no such run, the folder holds other things, or it cannot be written.
    """
    target = Path(folder)
    with store.read() as connection:
        run = resolve_run(connection, name_or_id)
        parts = _parts(connection)
        try:
            with _filled(target) as work:
                for part in parts:
                    _write_part(connection, part, run, work)
                (work / "README.md").write_text(_readme(connection, parts, run), encoding="utf-8")
                (work / _MARKER).write_text(_run_document(run), encoding="utf-8")
        except (OSError, duckdb.IOException) as error:
            got = f"{target}: {' '.join(str(error).split())}"
            raise StoreError(
                "the export cannot be written", got=got, hint="check the disk and the folder"
            ) from error
    return sorted(target.iterdir())


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Gives a working folder inside `folder`; once filled, its files replace an earlier export there."""
    if folder.exists() and not folder.is_dir():
        raise StoreError("an export needs a folder", got=f"{folder} (a file)")
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in sorted(folder.iterdir()) if path.name != _UNFINISHED]
    foreign = [
        path.name for path in earlier if path.name not in ("README.md", _MARKER) and path.suffix != ".parquet"
    ]
    if foreign or (earlier and not _is_export(folder / _MARKER)):
        got = f"{folder} holds {', '.join(path.name for path in earlier[:5])}"
        raise StoreError("the folder holds other things", got=got, hint="give a new or empty folder")
    work = folder / _UNFINISHED
    try:
        work.mkdir(exist_ok=True)
        yield work
        for path in earlier:
            if path.name != _MARKER:  # replaced last: cut short here, the folder is still known as an export
                path.unlink()
        for path in sorted(work.iterdir(), key=lambda path: path.name == _MARKER):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_export(marker: Path) -> bool:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == _FORMAT


def _parts(connection: Connection) -> list[_Part]:
    """What there is to export: our tables (facts through their views), then tables that jobs made."""
    parts = []
    for table in metadata.tables.values():
        if ("run_id" in table.columns and table is not runs) or table is vocabulary:
            columns = tuple(column.name for column in table.columns if not column.info["volatile"])
            parts.append(_Part(query_name(table), columns, table.info["key"]))
    ours = list(metadata.tables)
    query = (
        "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
        " WHERE database_name = current_database() AND table_name IN (SELECT table_name FROM duckdb_tables())"
        " GROUP BY table_name HAVING bool_or(column_name = 'run_id') ORDER BY table_name"
    )
    for name, columns in connection.execute(text(query)).all():
        if name not in ours:
            parts.append(_Part(name, tuple(columns), tuple(columns)))
    return parts


def _write_part(connection: Connection, part: _Part, run: Row[Any], folder: Path) -> None:
    path = folder / f"{part.name}.parquet"
    condition = f"run_id = {run.run_id}"
    if part.name == vocabulary.name:
        condition = "tokenizer_key = '" + run.tokenizer_key.replace("'", "''") + "'"
    quoted = str(path).replace("'", "''")
    copy = f"COPY ({part.query(condition)}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)"
    raw(connection).execute(copy).fetchall()


_COMMENTS = (
    "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = current_database()"
)


def _readme(connection: Connection, parts: list[_Part], run: Row[Any]) -> str:
    sections = [
        f"# Export of run {run.name}\n",
        "One Parquet file a table. run.json holds the run: settings, identity, provenance, label names.\n",
    ]
    ours = {query_name(table) for table in metadata.tables.values()}
    comments = connection.execute(text(_COMMENTS)).all()
    said = {(table, column): comment for table, column, comment in comments}
    for part in parts:
        described = connection.execute(
            text(f"SELECT column_name, column_type FROM (DESCRIBE {part.name})")
        ).all()
        types = {column: type_ for column, type_ in described}
        known = part.name in ours
        rows = [
            (
                column,
                types[column],
                meaning(part.name, column) if known else said.get((part.name, column)) or "",
            )
            for column in part.columns
        ]
        sections.append(
            f"## {part.name}.parquet\n\nOrdered by {', '.join(part.order)}.\n\n{markdown_table(rows)}"
        )
    return "\n".join(sections)


def _run_document(run: Row[Any]) -> str:
    values = dict(run._mapping)
    for column in ("config", "identity", "provenance"):
        values[column] = json.loads(values[column])
    document = {"format": _FORMAT, "schema_version": SCHEMA_VERSION, "run": values}
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"
