"""What many commands share: arguments and options, the store, rows on stdout as table, CSV or JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attattr_batch.choices import RowFormat
from attattr_batch.files import csv_lines, distinct_names, text_of

if TYPE_CHECKING:
    from attattr_batch.store.database.connection import Store

stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

RunArgument = Annotated[str, typer.Argument(help="Name or id of the run.")]
DbOption = Annotated[Path, typer.Option("--db", envvar="ATTATTR_DB", help="The store: one DuckDB file.")]
FormatOption = Annotated[RowFormat, typer.Option("--format", help="How rows are printed on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, with times.")]

DEFAULT_DB = Path("attattr.duckdb")


def open_store(db: Path, *, create: bool = False) -> Store:
    """The store of a command. Imports DuckDB, which takes half a second that `--help` should not take."""
    from attattr_batch.store.database.connection import Store

    return Store(db, create=create)


def stored_rows(db: Path, *queries: str) -> list[tuple[list[str], list[tuple[Any, ...]]]]:
    """Column names and rows of each query, of one state of the store.

    For queries of ours. Those that people write go through the console, which starts a process to lock in
    what it runs.
    """
    from attattr_batch.store.database.connection import fetched_rows

    with open_store(db).read() as connection:
        return [fetched_rows(connection, query) for query in queries]


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: RowFormat) -> None:
    """Prints rows on stdout."""
    if form == "json":
        keys = distinct_names(columns)
        records = [dict(zip(keys, map(_json_value, row), strict=True)) for row in rows]
        print(json.dumps(records, default=text_of, ensure_ascii=False, allow_nan=False, indent=1))
    elif form == "csv":
        sys.stdout.writelines(csv_lines(columns, rows))
    else:
        table = Table(box=box.SIMPLE_HEAD)
        # Names and texts are anyone's; in a Text, rich reads no markup.
        for column in columns:
            table.add_column(Text(column), overflow="fold")
        for row in rows:
            table.add_row(*[Text(_cell(value)) for value in row])
        stdout.print(table)


def _json_value(value: Any) -> Any:
    """A value that JSON can hold: null for NaN and infinity, also within lists and structs."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {key: _json_value(one) for key, one in value.items()}
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)
