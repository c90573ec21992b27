"""Turns the columns of a table into examples: texts, label names and gold ids."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attattr_batch.data.records import Dataset, Example
from attattr_batch.data.tasks import GLUE_TASKS, Columns
from attattr_batch.data.text_files import Table
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings

UNLABELLED = (None, "", "-1", -1)
"""What stands for "no label" in data of the user's own."""

_HOW_TO_NAME = "give the label names, in the order of their integer ids, as `labels`"


def make_dataset(
    table: Table, columns: Columns, settings: DataSettings, unlabelled: Sequence[Any] = UNLABELLED
) -> Dataset:
    """Makes the dataset of a run from a table; a missing text is the empty text.

    A label is a name or an integer id. Where all names are numbers, as of star ratings, a number is a name,
    except in a column that carries its own label names, which holds ids. The names in `settings.labels` win;
    otherwise they are those that the column carries, those of the GLUE task, or the sorted values of a text
    column (as numbers where all are).

    Args:
        table: The rows.
        columns: Which of its columns are the texts and the label.
        settings: What the run asks for.
        unlabelled: Values that stand for "no label" unless they are a name; so does NaN.

    Raises:
        UserError: a column is missing or does not hold text, the label names are not known, or a label is
            not one of them.
    """
    if missing := [name for name in columns.names if name not in table.names]:
        raise UserError(
            f"{table.source} lacks {'a column' if len(missing) == 1 else 'columns'} it needs",
            got=f"missing {', '.join(map(repr, missing))}",
            allowed=f"the columns there are: {', '.join(map(repr, table.names))}",
        )
    labels = _labels(table, columns.label, settings)
    task = GLUE_TASKS.get(settings.task or "")
    strip = task is not None and task.strip
    texts_a = _texts(table, columns.text_a, settings.limit, strip=strip)
    count = len(texts_a)
    texts_b = _texts(table, columns.text_b, settings.limit, strip=strip) if columns.text_b else [None] * count
    gold = _gold(table, columns.label, labels, count, unlabelled) if columns.label else [None] * count
    examples = tuple(Example(*row) for row in zip(range(count), texts_a, texts_b, gold, strict=True))
    name = settings.task or Path(settings.dataset or table.source).stem
    return Dataset(name, settings.split, table.source, labels, examples, table.revision)


def _texts(table: Table, column: str, limit: int | None, *, strip: bool) -> list[str]:
    if column not in table.texts:
        raise UserError(
            f"column {column!r} of {table.source} does not hold text",
            allowed=f"the text columns there are: {', '.join(table.texts) or 'none'}",
        )
    texts = [value or "" for value in table.columns[column][:limit]]
    return [text.strip() for text in texts] if strip else texts


def _labels(table: Table, column: str | None, settings: DataSettings) -> tuple[str, ...]:
    """The label names; they must not depend on a row limit, or the ids would."""
    task, carried = GLUE_TASKS.get(settings.task or ""), table.class_names.get(column or "")
    if carried is not None:
        labels = _against_carried(tuple(settings.labels or carried), carried, table.source)
    elif settings.labels:
        labels = tuple(settings.labels)
    elif task is not None:
        labels = task.labels
    elif column is not None and column in table.texts:
        labels = _in_order(set(table.columns[column][:]).difference(UNLABELLED))
    else:
        where = f"label column {column!r} of" if column else "no label column in"
        raise UserError("the label names are not known", got=f"{where} {table.source}", hint=_HOW_TO_NAME)
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError("a task needs two or more different labels", got=", ".join(labels), hint=_HOW_TO_NAME)
    return labels


def _against_carried(labels: tuple[str, ...], carried: tuple[str, ...], source: str) -> tuple[str, ...]:
    renamed = len(labels) == len(carried) and set(labels) != set(carried)
    if labels != carried and not renamed:
        raise UserError(
            f"`labels` contradicts the label names that {source} carries",
            got=", ".join(labels),
            allowed=", ".join(carried),
            hint="leave `labels` out",
        )
    return labels


def _in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Alphabetic order; the order of the numbers where all are numbers, because 2 comes before 10."""
    found = sorted(labels)
    return tuple(found if _numbers(found) is None else sorted(found, key=float))


def _numbers(labels: Sequence[str]) -> list[float] | None:
    """The labels as numbers; None unless all are."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None  # "nan" and "inf" are words


def _gold(
    table: Table, column: str, labels: Sequence[str], limit: int, unlabelled: Sequence[Any]
) -> list[int | None]:
    ids = _ids(labels, numbers_are_ids=column in table.class_names)
    words = {label.lower(): label for label in labels}
    found: list[int | None] = []
    for row, value in enumerate(table.columns[column][:limit]):
        name = words.get(str(value).lower(), value) if isinstance(value, bool) else value
        gold = ids.get(name) if isinstance(name, Hashable) else None
        # NaN, a missing number, does not equal itself.
        if gold is None and value not in unlabelled and value == value:
            named = ", ".join(f"{label} ({index})" for index, label in enumerate(labels))
            raise UserError("unknown label", got=f"{table.place(column, row)}: {value!r:.200}", allowed=named)
        found.append(gold)
    return found


def _ids(labels: Sequence[str], *, numbers_are_ids: bool) -> Mapping[Hashable, int]:
    """The id of every value that means a label: its name, and its id or the number that its name is."""
    names: dict[Hashable, int] = {label: index for index, label in enumerate(labels)}
    numbers = None if numbers_are_ids else _numbers(labels)
    if numbers is not None:
        return {**dict(zip(numbers, names.values(), strict=True)), **names}
    return {**{index: index for index in names.values()}, **{str(i): i for i in names.values()}, **names}
