"""Turns the columns of a table into examples: texts, label names and gold ids.

Importing this module imports `datasets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets

from attattr_batch.data.tables import Table
from attattr_batch.data.tasks import GLUE_TASKS, Columns
from attattr_batch.data.tsv import label_id, require_columns
from attattr_batch.errors import UserError
from attattr_batch.records import Dataset, Example
from attattr_batch.spec import RunSpec

_UNLABELLED = (None, -1, "", "-1")
_HOW_TO_NAME = "give the label names, in the order of their integer ids, as `labels`"


def table_dataset(table: Table, columns: Columns, spec: RunSpec) -> Dataset:
    """Makes the dataset of a run from a table; a missing text is the empty text.

    A label is an integer id or a name; null, -1 and "" mean unlabelled. The names in `spec.labels` win;
    otherwise they are those of a ClassLabel column, of the GLUE task, or the sorted values of a text column
    (as numbers where all are).

    Raises:
        UserError: a column is missing or does not hold text, the label names are not known, or a label is
            not one of them.
    """
    require_columns(table.rows.column_names, columns.names, table.source)
    labels = _labels(table, columns.label, spec)
    count = len(table.rows) if spec.limit is None else min(spec.limit, len(table.rows))
    rows = table.rows.select(range(count))
    texts_a = _texts(rows, columns.text_a, table.source)
    texts_b: list[str | None] = [None] * count
    if columns.text_b:
        texts_b = [*_texts(rows, columns.text_b, table.source)]
    gold: list[int | None] = [None] * count
    if columns.label:
        where = f"{table.source}, column {columns.label!r}"
        values = rows[columns.label][:]
        gold = [_gold(value, labels, f"{where}, row {row}") for row, value in enumerate(values)]
    task = GLUE_TASKS.get(spec.task or "")
    if task is not None and task.strip:
        texts_a = [text.strip() for text in texts_a]
        texts_b = [text if text is None else text.strip() for text in texts_b]
    examples = tuple(Example(*row) for row in zip(range(count), texts_a, texts_b, gold, strict=True))
    name = spec.task or Path(spec.dataset or table.source).stem
    return Dataset(name, spec.split, table.source, labels, examples, table.revision)


def _labels(table: Table, column: str | None, spec: RunSpec) -> tuple[str, ...]:
    feature = table.rows.features[column] if column else None
    task = GLUE_TASKS.get(spec.task or "")
    if isinstance(feature, datasets.ClassLabel):
        labels = _against_class_label(tuple(spec.labels or feature.names), tuple(feature.names), table.source)
    elif spec.labels:
        labels = tuple(spec.labels)
    elif task is not None:
        labels = task.labels
    elif column and _is_text(feature):
        # Over the whole split: the ids must not depend on a row limit.
        labels = _in_order(value for value in table.rows.unique(column) if value not in _UNLABELLED)
    else:
        what = (
            f"label column {column!r} of {table.source}" if column else f"{table.source} has no label column"
        )
        raise UserError("the label names are not known", got=what, hint=_HOW_TO_NAME)
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError("a task needs two or more different labels", got=", ".join(labels), hint=_HOW_TO_NAME)
    return labels


def _in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """The alphabet's order; that of the numbers where all are numbers, as 2 comes before 10."""
    found = sorted(labels)
    try:
        numbers = {label: float(label) for label in found}
    except ValueError:
        return tuple(found)
    finite = all(map(math.isfinite, numbers.values()))  # "nan" and "inf" are words
    return tuple(sorted(found, key=numbers.__getitem__) if finite else found)


def _against_class_label(labels: tuple[str, ...], names: tuple[str, ...], source: str) -> tuple[str, ...]:
    renamed = len(labels) == len(names) and set(labels) != set(names)
    if labels != names and not renamed:
        raise UserError(
            f"`labels` contradicts the label names that {source} carries",
            got=", ".join(labels),
            allowed=", ".join(names),
            hint="leave `labels` out",
        )
    return labels


def _is_text(feature: Any) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string", "string_view")


def _texts(rows: datasets.Dataset, column: str, source: str) -> list[str]:
    if not _is_text(rows.features[column]):
        text = [name for name in rows.column_names if _is_text(rows.features[name])]
        raise UserError(
            f"column {column!r} of {source} does not hold text",
            got=rows.features[column],
            allowed=f"the text columns there are: {', '.join(text) or 'none'}",
        )
    return [value or "" for value in rows[column][:]]


def _gold(value: Any, labels: Sequence[str], where: str) -> int | None:
    if value in _UNLABELLED or value != value:  # NaN, a missing number, differs from itself
        return None
    if isinstance(value, bool) and str(value).lower() in (names := [label.lower() for label in labels]):
        gold: int | None = names.index(str(value).lower())
    elif isinstance(value, str):
        gold = label_id(value, labels)
    else:
        gold = int(value) if isinstance(value, int | float) and value in range(len(labels)) else None
    if gold is None:
        named = ", ".join(f"{name} ({index})" for index, name in enumerate(labels))
        raise UserError(f"unknown label in {where}", got=repr(value), allowed=named)
    return gold
