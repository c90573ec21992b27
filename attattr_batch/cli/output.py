"""Rows on stdout, as table, CSV or JSON; and the arguments and options that many commands share."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attattr_batch.choices import RowFormat
from attattr_batch.files import as_text, distinct_names

stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
stdout = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

RunArgument = Annotated[str, typer.Argument(help="Name or id of the run.")]
DbOption = Annotated[Path, typer.Option("--db", envvar="ATTATTR_DB", help="The store: one DuckDB file.")]
FormatOption = Annotated[RowFormat, typer.Option("--format", help="How rows are printed on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, with times.")]

DEFAULT_DB = Path("attattr.duckdb")


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: RowFormat) -> None:
    """Prints rows on stdout."""
    if form == "json":
        keys = distinct_names(columns)
        records = [dict(zip(keys, map(_json_value, row), strict=True)) for row in rows]
        print(json.dumps(records, default=_text, ensure_ascii=False, allow_nan=False, indent=1))
    elif form == "csv":
        _write_csv([as_text(column) for column in columns])
        for row in rows:
            _write_csv([_csv_value(value) for value in row])
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


def _write_csv(row: Sequence[Any]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(row)  # with "\n" alone, "\r" in a text is not quoted
    sys.stdout.write(line.getvalue().removesuffix("\r\n") + "\n")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    return value if isinstance(value, bool | int | float | Decimal) else as_text(_text(value))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)
