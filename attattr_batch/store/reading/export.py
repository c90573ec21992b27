"""A run as Parquet files, equal byte for byte for equal contents, or as a folder of Hugging Face `datasets`.

Rows are ordered by their key, and columns that hold wall-clock or machine facts are left out. The run itself,
with its times and provenance, goes to run.json.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import Connection, Row, text

from attattr_batch.choices import ExportFormat
from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.migrate import SCHEMA_VERSION
from attattr_batch.store.database.tables import metadata, query_name, runs, vocabulary
from attattr_batch.store.reading.data_dictionary import markdown_table, meaning
from attattr_batch.store.reading.folder import FORMAT, MARKER, filled, read_marker
from attattr_batch.store.reading.huggingface import write_dataset_dict
from attattr_batch.store.writing.runs import RUN_COLUMNS, resolve_run, unfinished_runs

log = logging.getLogger(__name__)

_OPENED_BY = {
    "parquet": "One Parquet file a table.",
    "datasets": "For Python's `datasets`: `load_from_disk(this_folder)` gives a DatasetDict with one split a"
    " table; columns of labels know their names.",
}


@dataclass(frozen=True)
class _Part:
    """One Parquet file: what to select of a table or view, and in which order."""

    name: str
    columns: tuple[str, ...]
    order: tuple[str, ...]

    def query(self, run: Row[Any]) -> str:
        """Its rows of a run: of a table of pairs, those with it on either side."""
        about = [f"{column} = {run.run_id}" for column in RUN_COLUMNS if column in self.columns]
        condition = " OR ".join(about)
        if self.name == vocabulary.name:
            condition = "tokenizer_key = '" + run.tokenizer_key.replace("'", "''") + "'"
        columns = ", ".join(f'"{column}"' for column in self.columns)
        order = ", ".join(f'"{column}"' for column in self.order)
        return f"SELECT {columns} FROM {self.name} WHERE {condition} ORDER BY {order}"


def export_run(
    store: Store, name_or_id: str | int, folder: str | Path, form: ExportFormat = "parquet"
) -> list[Path]:
    """Writes every table's and attribution view's rows of one run to `folder`.

    Args:
        store: The store.
        name_or_id: The run.
        folder: Where to; made if missing. An earlier export there is replaced, also one of another run
            or form, which is said in the log.
        form: `parquet`: a Parquet file for each table; `datasets`: a folder for `datasets.load_from_disk`.

    Returns:
        What is in the folder: the tables, README.md with every column's meaning, run.json.

    Raises:
        UserError: there is no such run.
        StoreError: the folder holds other things, or it cannot be written.
    """
    target = Path(folder).resolve()
    with store.read(folder=target) as connection:
        run = resolve_run(connection, name_or_id)
        parts = _parts(connection)
        try:
            other = _other_export(target, run, form)
            with filled(target) as work:
                _write_tables(connection, parts, run, work, form)
                (work / "README.md").write_text(_readme(connection, parts, run, form), encoding="utf-8")
                (work / MARKER).write_text(_run_document(run), encoding="utf-8")
        except (OSError, duckdb.IOException) as error:
            got = f"{target}: {' '.join(str(error).split())}"
            raise StoreError(
                "the export cannot be written", got=got, hint="check the disk and the folder"
            ) from error
    if other is not None:
        log.warning("replaced what was in %s: %s", target, other)
    return sorted(target.iterdir())


def _other_export(folder: Path, run: Row[Any], form: ExportFormat) -> str | None:
    """The export in a folder, in words, if it is of another run or form than is to come."""
    marker = read_marker(folder / MARKER)
    if marker is None:
        return None
    before, form_before = marker["run"], "datasets" if (folder / "dataset_dict.json").exists() else "parquet"
    if (before.get("run_key"), form_before) == (run.run_key, form):
        return None
    return f"the export of run {before.get('name')} as {form_before}"


def _write_tables(
    connection: Connection, parts: list[_Part], run: Row[Any], work: Path, form: ExportFormat
) -> None:
    if form == "parquet":
        for part in parts:
            _write_part(connection, part, run, work)
        return
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        files = {part.name: _write_part(connection, part, run, Path(scratch)) for part in parts}
        write_dataset_dict(files, run.labels, work)


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
        " GROUP BY table_name ORDER BY table_name"
    )
    for name, columns in connection.execute(text(query)).all():
        if name not in ours and set(columns) & set(RUN_COLUMNS):
            parts.append(_Part(name, tuple(columns), tuple(columns)))
    return parts


def _write_part(connection: Connection, part: _Part, run: Row[Any], folder: Path) -> Path:
    path = folder / f"{part.name}.parquet"
    quoted = str(path).replace("'", "''")
    copy = f"COPY ({part.query(run)}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)"
    raw(connection).execute(copy).fetchall()
    return path


_COMMENTS = (
    "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = current_database()"
)


def _readme(connection: Connection, parts: list[_Part], run: Row[Any], form: ExportFormat) -> str:
    sections = [
        f"# Export of run {run.name}\n",
        f"{_OPENED_BY[form]} run.json holds the run: settings, identity, provenance, label names.\n",
    ]
    sections += [
        f"**When this was written, {line}.**\n" for line in unfinished_runs(connection, [run.run_id])
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
        title = f"{part.name}.parquet" if form == "parquet" else part.name
        sections.append(f"## {title}\n\nOrdered by {', '.join(part.order)}.\n\n{markdown_table(rows)}")
    return "\n".join(sections)


def _run_document(run: Row[Any]) -> str:
    values = dict(run._mapping)
    for column in ("config", "identity", "provenance"):
        values[column] = json.loads(values[column])
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "run": values}
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"
