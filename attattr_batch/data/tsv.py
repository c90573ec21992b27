"""Reads TSV files as GLUE ships them: UTF-8, fields split on tabs and never quoted, one row a line.

Other people's CSV files, with quoted fields, are read here too. In both every field stays the text it is.
"""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from attattr_batch.data.records import Example
from attattr_batch.data.tasks import Columns, GlueTask
from attattr_batch.errors import UserError

NO_CONSENSUS = "-"
"""What MNLI writes as the gold label when its annotators disagreed."""


@dataclass(frozen=True)
class TableRow:
    """One data row: its 1-based line in the file and its fields by column name."""

    line: int
    fields: Mapping[str, str]


def read_table(
    path: Path, columns: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Iterator[TableRow]]:
    r"""Reads a TSV file.

    Only `\n` and `\r\n` end a line: texts hold other Unicode line separators and stray quotes.

    Args:
        path: The file; UTF-8, with or without a byte order mark.
        columns: Column names of a file without header; None takes them from the first line.

    Returns:
        The column names and an iterator over the data rows.

    Raises:
        UserError: the file cannot be read or is empty; while iterating, a row has too few or too many fields.
    """
    lines = _lines(path)
    if not lines:
        raise UserError("the TSV file is empty", got=path, allowed="a header line and data rows")
    if columns is None:
        return (names := tuple(lines[0].split("\t"))), _rows(path, names, lines, first=1)
    return tuple(columns), _rows(path, tuple(columns), lines, first=0)


def read_csv(path: Path) -> tuple[tuple[str, ...], Iterator[TableRow]]:
    """Reads a CSV file with a header: comma-separated, fields quoted by `"` where they need it.

    Returns and Raises: as `read_table`.
    """
    csv.field_size_limit(sys.maxsize)  # a long text is truncated to the model's limit, like any other
    reader = csv.reader(io.StringIO(_text(path, "CSV"), newline=""), strict=True)
    try:
        columns = tuple(next(reader, ()))
    except csv.Error as error:
        raise _broken_csv(path, reader, error) from error
    if not columns:
        raise UserError("the CSV file is empty", got=path, allowed="a header line and data rows")
    return columns, _csv_rows(path, columns, reader)


def read_glue(path: Path, task: GlueTask, split: str, limit: int | None = None) -> list[Example]:
    """Reads one split of a GLUE task, or its first `limit` rows, from its official TSV file.

    Labels may be names or integer ids. A `test` file may lack the label column, and MNLI marks rows
    without consensus by `-`: such rows have no gold label.

    Raises:
        UserError: the file or a row is broken; the message names the file and the line.
    """
    columns, rows = read_table(path, task.headerless.get(split))
    needed = task.tsv
    if split == "test" and needed.label not in columns:
        needed = replace(needed, label=None)
    require_columns(columns, needed.names, path)
    return [_example(number, row, path, task, needed) for number, row in enumerate(islice(rows, limit))]


def require_columns(columns: Sequence[str], needed: Sequence[str], where: object) -> None:
    """Raises UserError, naming the columns there are, unless every needed column is there."""
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(
            f"{where} lacks {'a column' if len(missing) == 1 else 'columns'} it needs",
            got=f"missing {', '.join(map(repr, missing))}",
            allowed=f"the columns there are: {', '.join(map(repr, columns))}",
        )


def label_id(text: str, labels: Sequence[str]) -> int | None:
    """Returns the id of a label written as a name or as an integer id; None if it is neither."""
    if text in labels:
        return labels.index(text)
    number = text.lstrip("0") or "0"  # Python refuses to read a number of thousands of digits
    if (
        text.isascii()
        and text.isdigit()
        and len(number) <= len(str(len(labels)))
        and int(number) < len(labels)
    ):
        return int(number)
    return None


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


def _lines(path: Path) -> list[str]:
    text = _text(path, "TSV")
    if not text:
        return []
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _rows(path: Path, columns: tuple[str, ...], lines: Sequence[str], first: int) -> Iterator[TableRow]:
    for index in range(first, len(lines)):
        yield _row(path, columns, lines[index].split("\t"), index + 1)


def _csv_rows(path: Path, columns: tuple[str, ...], reader: Any) -> Iterator[TableRow]:
    try:
        for fields in reader:
            if fields:  # a blank line, often the last
                yield _row(path, columns, fields, reader.line_num)
    except csv.Error as error:
        raise _broken_csv(path, reader, error) from error


def _broken_csv(path: Path, reader: Any, error: csv.Error) -> UserError:
    return UserError("broken CSV row", got=f"{path}, line {reader.line_num}: {error}")


def _row(path: Path, columns: tuple[str, ...], fields: Sequence[str], line: int) -> TableRow:
    if len(fields) != len(columns):
        raise UserError(
            f"broken row: too {'few' if len(fields) < len(columns) else 'many'} fields",
            got=f"{path}, line {line}: {len(fields)} fields",
            allowed=f"{len(columns)} fields: {', '.join(columns)}",
            hint="mend or delete the line",
        )
    return TableRow(line, dict(zip(columns, fields, strict=True)))


def _example(number: int, row: TableRow, path: Path, task: GlueTask, columns: Columns) -> Example:
    text_a = row.fields[columns.text_a]
    text_b = row.fields[columns.text_b] if columns.text_b else None
    if task.strip:
        text_a, text_b = text_a.strip(), text_b.strip() if text_b is not None else None
    gold = _gold(row, path, task, columns.label) if columns.label else None
    return Example(number, text_a, text_b, gold)


def _gold(row: TableRow, path: Path, task: GlueTask, column: str) -> int | None:
    text = row.fields[column]
    if text == NO_CONSENSUS and task.folder == "MNLI":
        return None
    gold = label_id(text, task.labels)
    if gold is None:
        raise UserError(
            "broken row: unknown label",
            got=f"{path}, line {row.line}: {text!r}",
            allowed=", ".join(f"{name} ({index})" for index, name in enumerate(task.labels)),
        )
    return gold
