"""Writes a run as Parquet files or as a folder of Hugging Face `datasets`.

Equal contents give equal bytes: rows are ordered by their key, and columns of wall-clock or machine facts are
left out. The run itself, with its times and provenance, goes to run.json.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Row, text

from attattr_batch.choices import ExportFormat
from attattr_batch.errors import UserError, one_line
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.migrate import SCHEMA_VERSION
from attattr_batch.store.database.sqlfile import literal
from attattr_batch.store.database.tables import metadata, query_name, runs, vocabulary
from attattr_batch.store.reading.data_dictionary import markdown_table, meaning
from attattr_batch.store.writing.runs import JSON_COLUMNS, RUN_COLUMNS, resolve_run, unfinished_runs

FORMAT = "attattr_batch export 2"
"""What run.json gives as its `format`. With its list of `files` it tells an export from other folders."""

_RUN_FILE = "run.json"

_OPENED_BY = {
    "parquet": "One Parquet file a table.",
    "datasets": "For Python's `datasets`: `load_from_disk(this_folder)` gives a DatasetDict with one split a"
    " table; columns of labels know their names.",
}

_LABEL_COLUMNS = ("gold", "predicted", "label")

_COLUMNS = """
SELECT table_name, column_name, data_type, coalesce(comment, '')
FROM duckdb_columns()
WHERE database_name = current_database() AND table_name IN (SELECT table_name FROM duckdb_tables())
ORDER BY table_name, column_index
"""


@dataclass(frozen=True)
class _Part:
    """One table or view to export: its columns (name, type, meaning) and the order of its rows."""

    name: str
    columns: Sequence[tuple[str, str, str]]
    order: Sequence[str]

    def query(self, run: Row[Any]) -> str:
        """Selects its rows of a run; of a table of pairs of runs, those with the run on either side."""
        names = [name for name, _, _ in self.columns]
        condition = " OR ".join(f"{column} = {run.run_id}" for column in RUN_COLUMNS if column in names)
        if self.name == vocabulary.name:
            condition = f"tokenizer_key = {literal(run.tokenizer_key)}"
        return f"SELECT {_quoted(names)} FROM {self.name} WHERE {condition} ORDER BY {_quoted(self.order)}"


def export_run(
    store: Store, name_or_id: str | int, folder: str | Path, form: ExportFormat = "parquet"
) -> list[Path]:
    """Writes every table's and attribution view's rows of one run to `folder`.

    Args:
        store: The store.
        name_or_id: The run.
        folder: Where to; made if missing. An earlier export there, of whichever run, is replaced as a whole.
        form: `parquet`: a Parquet file for each table; `datasets`: a folder for `datasets.load_from_disk`.

    Returns:
        What is in the folder: the tables, README.md with every column's meaning, run.json.

    Raises:
        UserError: there is no such run, the folder holds other things, or it cannot be written.
        StoreError: the store cannot be read.
    """
    target = Path(folder).resolve()
    # Written beside its place and renamed, so that nobody ever finds half an export there.
    aside = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    with store.read(folder=aside) as connection:
        run = resolve_run(connection, name_or_id)
        try:
            _check_replaceable(target)
            aside.mkdir(parents=True)
            _write(connection, run, aside, form)
            _put_in_place(aside, target)
            return sorted(target.iterdir())
        except (OSError, duckdb.IOException) as error:
            got = f"{target}: {one_line(error)}"
            hint = "check the disk and the folder"
            raise UserError("the export cannot be written", got=got, hint=hint) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Checks that a folder is missing, empty, or holds an export and nothing else.

    Raises:
        UserError: it holds other things.
        OSError: it is no folder, or cannot be read.
    """
    present = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    try:
        document = json.loads((folder / _RUN_FILE).read_text(encoding="utf-8"))
        ours = document["format"] == FORMAT and document["files"] == present
    except (OSError, ValueError, KeyError, TypeError):  # not written by us
        ours = False
    if present and not ours:
        got = f"{folder} holds {', '.join(present[:5])}"
        raise UserError("the folder holds other things", got=got, hint="give a new or empty folder")


def _put_in_place(aside: Path, target: Path) -> None:
    earlier = aside.with_suffix(".earlier")
    if target.exists():
        os.replace(target, earlier)
    try:
        os.replace(aside, target)
    except OSError:
        if earlier.exists():
            os.replace(earlier, target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _write(connection: Connection, run: Row[Any], folder: Path, form: ExportFormat) -> None:
    parts = _parts(connection)
    if form == "parquet":
        for part in parts:
            _write_part(connection, part, run, folder)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            tables = {part.name: _write_part(connection, part, run, Path(scratch)) for part in parts}
            _write_dataset_dict(tables, run.labels, folder)
    (folder / "README.md").write_text(_readme(connection, parts, run, form), encoding="utf-8")
    files = sorted([*(path.name for path in folder.iterdir()), _RUN_FILE])
    (folder / _RUN_FILE).write_text(_run_document(run, files), encoding="utf-8")


def _parts(connection: Connection) -> list[_Part]:
    """What there is to export: our tables (facts through their views), then tables that jobs made."""
    described: dict[str, list[tuple[str, str, str]]] = {}
    for table_name, column, type_, comment in connection.execute(text(_COLUMNS)).all():
        described.setdefault(table_name, []).append((column, type_, comment))
    parts = []
    for table in metadata.tables.values():
        if ("run_id" in table.columns and table is not runs) or table is vocabulary:
            types = {column: type_ for column, type_, _ in described[table.name]}
            kept = [column.name for column in table.columns if not column.info["volatile"]]
            name = query_name(table)
            columns = [(column, types[column], meaning(name, column)) for column in kept]
            parts.append(_Part(name, columns, table.info["key"]))
    for name, columns in described.items():
        names = [column for column, _, _ in columns]
        if name not in metadata.tables and set(names) & set(RUN_COLUMNS):
            parts.append(_Part(name, columns, names))
    return parts


def _write_part(connection: Connection, part: _Part, run: Row[Any], folder: Path) -> Path:
    path = folder / f"{part.name}.parquet"
    copy = f"COPY ({part.query(run)}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
    raw(connection).execute(copy).fetchall()
    return path


def _readme(connection: Connection, parts: Sequence[_Part], run: Row[Any], form: ExportFormat) -> str:
    sections = [
        f"# Export of run {run.name}\n",
        f"{_OPENED_BY[form]} run.json holds the run: settings, identity, provenance, label names.\n",
    ]
    for line in unfinished_runs(connection, [run.run_id]):
        sections.append(f"**When this was written, {line}.**\n")
    for part in parts:
        title = f"{part.name}.parquet" if form == "parquet" else part.name
        table = markdown_table(part.columns)
        sections.append(f"## {title}\n\nOrdered by {', '.join(part.order)}.\n\n{table}")
    return "\n".join(sections)


def _run_document(run: Row[Any], files: Sequence[str]) -> str:
    values = dict(run._mapping)
    for column in JSON_COLUMNS:
        values[column] = json.loads(values[column])
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "files": files, "run": values}
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _write_dataset_dict(tables: Mapping[str, Path], labels: Sequence[str], folder: Path) -> None:
    """Writes tables as a `DatasetDict`, one split each; rows are never all in memory.

    Args:
        tables: Parquet file by name of the split; an Arrow file is written beside each.
        labels: Label names by id: integer columns that hold labels become `ClassLabel`.
        folder: Where to; exists.

    Raises:
        OSError: it cannot be written.
    """
    # Imported here: it takes a second or two, which no other export has to wait for.
    from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features

    from attattr_batch.data.user_files import no_progress_bars

    with no_progress_bars():
        splits = {}
        for name, path in tables.items():
            schema = pq.read_schema(path)
            features = Features.from_arrow_schema(schema)
            for column in _LABEL_COLUMNS:
                if column in schema.names and pa.types.is_integer(schema.field(column).type):
                    features[column] = ClassLabel(names=list(labels))
            rows = path.with_suffix(".arrow")
            _copy_as_arrow(path, rows, features.arrow_schema)
            splits[name] = Dataset.from_file(str(rows), info=DatasetInfo(features=features))
        # A table without rows would be saved without a file, and could not be loaded.
        shards = {name: None if len(rows) else 1 for name, rows in splits.items()}
        DatasetDict(splits).save_to_disk(folder, num_shards=shards)


def _copy_as_arrow(parquet: Path, arrow: Path, schema: pa.Schema) -> None:
    with pq.ParquetFile(parquet) as source, pa.OSFile(str(arrow), "wb") as sink:
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in source.iter_batches():
                writer.write_table(pa.table(batch.columns, names=batch.schema.names).cast(schema))
