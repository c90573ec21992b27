"""Saves charts as SVG, PNG or JSON, by the file's ending; tables as CSV."""

from __future__ import annotations

import io
from pathlib import Path

import altair as alt
import pyarrow as pa
import pyarrow.csv
import vl_convert

from attattr_batch.errors import UserError
from attattr_batch.files import as_text, write_file
from attattr_batch.store.reading.console import plain

_PNG_SCALE = 2.0


def save_chart(chart: alt.TopLevelMixin, path: Path) -> None:
    """Writes a chart to `path`; `.json` gives its Vega-Lite specification.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    specification = chart.to_json()
    match path.suffix:
        case ".svg":
            content = vl_convert.vegalite_to_svg(specification).encode()
        case ".png":
            content = vl_convert.vegalite_to_png(specification, scale=_PNG_SCALE)
        case ".json":
            content = specification.encode()
        case _:
            raise UserError("pictures are saved by the file's ending", got=path, allowed=".svg, .png, .json")
    write_file(path, content)


def csv_file(table: pa.Table) -> bytes:
    """The table as CSV (see `flat`), with no text that a spreadsheet would compute."""
    columns = [
        pa.array([None if value is None else as_text(value) for value in column.to_pylist()])
        if pa.types.is_string(column.type)
        else column
        for column in flat(table).columns
    ]
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(columns, names=[as_text(name) for name in table.column_names]), sink)
    return sink.getvalue()


def flat(table: pa.Table) -> pa.Table:
    """The table with columns of numbers, times and texts alone: any other type is a text.

    CSV has no others, and a browser's table shows intervals as wrong numbers and of unions nothing.
    """
    columns = [column if _number_or_time(column.type) else _texts(column) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def _number_or_time(kind: pa.DataType) -> bool:
    if pa.types.is_interval(kind):  # primitive to Arrow, which has no text for it
        return False
    return pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no text; lists, intervals
        texts = [None if value is None else str(plain(value)) for value in column.to_pylist()]
        return pa.array(texts, pa.string())
