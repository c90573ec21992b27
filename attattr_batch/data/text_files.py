"""Reads TSV files as GLUE ships them, and CSV files: UTF-8, every field the text that it is."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from attattr_batch.errors import UserError

_Row = tuple[int, list[str]]
"""A row's line in the file, counted from 1, and its fields."""


@dataclass(frozen=True)
class Table:
    """The rows of one split, still with their own columns.

    Attributes:
        source: Where they came from, for messages and provenance.
        names: Names of all columns.
        texts: Names of the columns that hold text.
        columns: Values by column name; has at least the needed columns, and each can be sliced.
        class_names: Label names, in the order of their ids, of the columns that carry them.
        lines: Line of each row in a text file, counted from 1; None elsewhere.
        revision: Commit hash of a hub set, else None.
    """

    source: str
    names: Sequence[str]
    texts: Sequence[str]
    columns: Mapping[str, Any]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: Sequence[int] | None = None
    revision: str | None = None

    def place(self, column: str, row: int) -> str:
        """Names a cell for a message, for example `dev.tsv, column 'label', line 7`."""
        where = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.source}, column {column!r}, {where}"


def read_text_file(
    path: Path, needed: Sequence[str], header: Sequence[str] | None = None, limit: int | None = None
) -> Table:
    r"""Reads a file whose first line names the columns: CSV if its name ends in `.csv`, else TSV.

    In a TSV file only `\n` and `\r\n` end a line and only a tab ends a field, because texts hold other
    Unicode line separators and stray quotes. In a CSV file `"` quotes fields that need it, and blank lines
    are skipped.

    Args:
        path: The file; UTF-8, with or without a byte order mark.
        needed: Columns to keep, where the file has them.
        header: Column names of a file that has no header line.
        limit: First N rows only; what follows is not looked at.

    Raises:
        UserError: the file cannot be read, is empty or names a column twice, or a row has too few or too many
            fields.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _tsv_rows(path)
    names = header or next(rows, (0, []))[1]
    if not names:
        raise UserError("the data file is empty", got=path, allowed="a header line and data rows")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError("the data file names a column twice", got=f"{path}: {', '.join(twice)}")
    places = [names.index(name) for name in needed if name in names]
    lines: list[int] = []
    kept: list[list[str]] = [[] for _ in places]
    for line, fields in islice(rows, limit):
        if len(fields) != len(names):
            raise UserError(
                f"broken row: too {'few' if len(fields) < len(names) else 'many'} fields",
                got=f"{path}, line {line}: {len(fields)} fields",
                allowed=f"{len(names)} fields: {', '.join(names)}",
                hint="mend or delete the line",
            )
        lines.append(line)
        for column, place in zip(kept, places, strict=True):
            column.append(fields[place])
    columns = {names[place]: column for place, column in zip(places, kept, strict=True)}
    return Table(str(path), names, names, columns, lines=lines)


def _tsv_rows(path: Path) -> Iterator[_Row]:
    if text := _text(path, "TSV"):
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            yield number, line.removesuffix("\r").split("\t")


def _csv_rows(path: Path) -> Iterator[_Row]:
    csv.field_size_limit(sys.maxsize)  # a long text is truncated to the model's limit, like any other
    reader = csv.reader(io.StringIO(_text(path, "CSV"), newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise UserError("broken CSV row", got=f"{path}, line {reader.line_num}: {error}") from error


def _text(path: Path, kind: str) -> str:
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"cannot read the {kind} file", got=f"{path}: {error.strerror}") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"the {kind} file is not UTF-8",
            got=f"{path}, line {line}: byte 0x{content[error.start]:02x}",
            hint="convert the file to UTF-8",
        ) from error
