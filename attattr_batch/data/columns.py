"""Turns the columns of a table into examples: texts, label names and gold ids.

Importing this module imports `datasets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets

from attattr_batch.data.records import Dataset, Example
from attattr_batch.data.tables import Table
from attattr_batch.data.tasks import GLUE_TASKS, Columns
from attattr_batch.data.tsv import label_id, require_columns
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings

_UNLABELLED = (None, "", "-1")
_HOW_TO_NAME = "give the label names, in the order of their integer ids, as `labels`"


def table_dataset(table: Table, columns: Columns, spec: DataSettings) -> Dataset:
    """Makes the dataset of a run from a table; a missing text is the empty text.

    A label is a name or an integer id; where all names are numbers, as of star ratings, a number is a name,
    but for a ClassLabel column, which holds ids. Null, "" and -1, unless it is a name, mean unlabelled. The
    names in `spec.labels` win; otherwise they are those of a ClassLabel column, of the GLUE task, or the
    sorted values of a text column (as numbers where all are).

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
        names = _Names(labels, ids=isinstance(rows.features[columns.label], datasets.ClassLabel))
        gold = [names.gold(value, f"{where}, row {row}") for row, value in enumerate(rows[columns.label][:])]
    task = GLUE_TASKS.get(spec.task or "")
    if task is not None and task.strip:
        texts_a = [text.strip() for text in texts_a]
        texts_b = [text if text is None else text.strip() for text in texts_b]
    examples = tuple(Example(*row) for row in zip(range(count), texts_a, texts_b, gold, strict=True))
    name = spec.task or Path(spec.dataset or table.source).stem
    return Dataset(name, spec.split, table.source, labels, examples, table.revision)


def _labels(table: Table, column: str | None, spec: DataSettings) -> tuple[str, ...]:
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
    return tuple(found if _numbers(found) is None else sorted(found, key=float))


def _numbers(labels: Sequence[str]) -> list[float] | None:
    """The labels as numbers; None unless all are."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None  # "nan" and "inf" are words


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


class _Names:
    """The label names, and what a value of the label column means by them.

    Args:
        labels: The names, in the order of their ids.
        ids: Whether a number is an id even where all names are numbers.
    """

    def __init__(self, labels: Sequence[str], *, ids: bool):
        self._labels = labels
        self._numbers = None if ids else _numbers(labels)

    def gold(self, value: Any, where: str) -> int | None:
        """The value's id, or None for unlabelled.

        Raises:
            UserError: it is neither a name nor an id.
        """
        gold = self._id(value)
        if gold is None and not self._unlabelled(value):
            named = ", ".join(f"{name} ({index})" for index, name in enumerate(self._labels))
            raise UserError(f"unknown label in {where}", got=repr(value), allowed=named)
        return gold

    def _id(self, value: Any) -> int | None:
        if isinstance(value, bool) and str(value).lower() in (
            lower := [name.lower() for name in self._labels]
        ):
            return lower.index(str(value).lower())
        if self._numbers is not None:
            names: Sequence[Any] = self._labels if isinstance(value, str) else self._numbers
            return names.index(value) if value in names else None
        if isinstance(value, str):
            return label_id(value, self._labels)
        known = isinstance(value, int | float) and value in range(len(self._labels))
        return int(value) if known else None

    def _unlabelled(self, value: Any) -> bool:
        return value in _UNLABELLED or value == -1 or value != value  # NaN, a missing number, is not itself
