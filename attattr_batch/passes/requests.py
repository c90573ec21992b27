"""What a job orders from a pass: for every example, the masks or attacks whose answers are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Row

from attattr_batch.data.insertion import INSERTION_VERSION, Trigger
from attattr_batch.errors import UserError
from attattr_batch.identity import content_key


@dataclass(frozen=True)
class Mask:
    """A set of heads to remove.

    Attributes:
        name: Given by the job.
        heads: Bit `layer * n_heads + head` is set for every head removed.
    """

    name: str
    heads: int


@dataclass(frozen=True)
class Attack:
    """A trigger to insert.

    Attributes:
        name: Given by the job.
        trigger: What to insert, and where.
    """

    name: str
    trigger: Trigger


Item = TypeVar("Item", Mask, Attack)

_TYPES = {
    "example_ids": pa.list_(pa.int64()),
    "mask": pa.string(),
    "heads": pa.list_(pa.int64()),
    "attack": pa.string(),
    "tokens": pa.list_(pa.int64()),
    "segments": pa.list_(pa.int64()),
    "ratios": pa.list_(pa.float64()),
}


@dataclass(frozen=True)
class Request(Generic[Item]):
    """What one job wants of one run.

    Attributes:
        items: The masks or attacks.
        of: For every example, the indices of its items.
        key: Hash of the whole order, and of the rule by which attacks insert their tokens.
    """

    items: tuple[Item, ...]
    of: Mapping[int, tuple[int, ...]]
    key: str


def read_request(kind: str, rows: pa.Table, run: Row[Any]) -> Request[Mask] | Request[Attack]:
    """Reads what a job orders of one run from the rows of its query.

    Args:
        kind: Kind of the pass: `masked_accuracy` or `attack`.
        rows: The rows, of every run.
        run: The run.

    Raises:
        UserError: the rows are no such order.
    """
    if "run_id" not in rows.column_names:
        raise UserError("the job's query lacks the column run_id", got=", ".join(rows.column_names))
    own = rows.filter(pc.equal(rows["run_id"], run.run_id))
    return mask_request(own, run.n_layers, run.n_heads) if kind == "masked_accuracy" else attack_request(own)


def mask_request(rows: pa.Table, n_layers: int, n_heads: int) -> Request[Mask]:
    """Reads the rows of a `masked_accuracy` job: `mask`, `example_ids`, `heads` (layer * n_heads + head).

    Raises:
        UserError: a column is missing, a head is not the model's, or a name comes twice for an example.
    """

    def read(row: Mapping[str, Any]) -> Mask:
        foreign = [head for head in row["heads"] if not 0 <= head < n_layers * n_heads]
        if foreign:
            allowed = f"layer * {n_heads} + head, below {n_layers * n_heads}"
            raise UserError("a mask removes a head that the model lacks", got=foreign[0], allowed=allowed)
        return Mask(row["mask"], sum(1 << head for head in set(row["heads"])))

    return _read(rows, ("mask", "heads"), read, {})


def attack_request(rows: pa.Table) -> Request[Attack]:
    """Reads the rows of an `attack` job: `attack`, `example_ids`, `tokens`, `segments`, `ratios`.

    Raises:
        UserError: a column is missing or of another type, lists differ in length, a place is in no text, or
            a name comes twice for an example.
    """

    def read(row: Mapping[str, Any]) -> Attack:
        parts = [tuple(row[column]) for column in ("tokens", "segments", "ratios")]
        if len(set(map(len, parts))) != 1:
            raise UserError("an attack's lists must be of one length", got=f"attack {row['attack']}")
        if not (set(row["segments"]) <= {0, 1} and all(0 < ratio <= 1 for ratio in row["ratios"])):
            raise UserError(
                "an attack inserts a token in no place of a text",
                got=f"attack {row['attack']}: segments {row['segments']}, ratios {row['ratios']}",
                allowed="segments 0 or 1, ratios above 0 and at most 1",
            )
        return Attack(row["attack"], Trigger(*parts))

    rule = {"insertion": INSERTION_VERSION}
    return _read(rows, ("attack", "tokens", "segments", "ratios"), read, rule)


def _read(
    rows: pa.Table,
    columns: Sequence[str],
    read: Callable[[Mapping[str, Any]], Item],
    rule: Mapping[str, int],
) -> Request[Item]:
    wanted = ("example_ids", *columns)
    missing = set(wanted) - set(rows.column_names)
    if missing:
        raise UserError(
            "the job's query lacks columns", got=", ".join(sorted(missing)), allowed=", ".join(wanted)
        )
    content = sorted(
        _typed(rows.select(wanted)).to_pylist(), key=lambda row: (row[columns[0]], row["example_ids"])
    )
    items = tuple(read(row) for row in content)
    of: dict[int, list[int]] = {}
    for index, row in enumerate(content):
        for example_id in row["example_ids"]:
            of.setdefault(example_id, []).append(index)
    for example_id, indices in of.items():
        _refuse_doubles(example_id, [items[index].name for index in indices])
    # Answers to masks do not depend on a rule: their keys are those of the releases before.
    key = content_key({"order": content, **rule} if rule else content)
    return Request(items, {one: tuple(indices) for one, indices in of.items()}, key)


def _typed(rows: pa.Table) -> pa.Table:
    """The rows in the columns' types; nulls have no meaning anywhere."""
    columns = []
    for name in rows.column_names:
        try:
            column = rows[name].combine_chunks().cast(_TYPES[name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                "a column of the job's query has the wrong type",
                got=f"{name}: {rows[name].type}",
                allowed=f"{_TYPES[name]}",
            ) from error
        if column.null_count or (pa.types.is_list(column.type) and column.flatten().null_count):
            raise UserError("a column of the job's query holds nulls", got=name)
        columns.append(column)
    return pa.table(columns, names=rows.column_names)


def _refuse_doubles(example_id: int, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError("a job orders a name twice for one example", got=f"{name}, example {example_id}")
        seen.add(name)
