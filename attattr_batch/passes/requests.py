"""What a job requests from a pass: for every example, the masks, attacks or paths that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Row, Table

from attattr_batch.data.insertion import INSERTION_VERSION, Trigger
from attattr_batch.engine.variants import CRITERIA, MOST_MEAN_ROWS, PATHS_VERSION
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.identity import content_key
from attattr_batch.store.database.tables import arrow_schema, attacked_answers, masked_answers, path_scores


def _named(table: Table, columns: str, **given: pa.DataType) -> pa.Schema:
    """Columns of a request: those that say what an item is, as `table` has them, and those `given`."""
    schema = arrow_schema(table)
    lists = {"example_ids": pa.int64(), **given}
    fields = [pa.field(name, pa.list_(type_), nullable=False) for name, type_ in lists.items()]
    return pa.schema([*(schema.field(name) for name in columns.split()), *fields])


_MASK = _named(masked_answers, "criterion direction draw step layer head", heads=pa.int64())
_ATTACK = _named(
    attacked_answers, "pattern control draw", tokens=pa.int64(), segments=pa.int64(), ratios=pa.float64()
)
_PATH = _named(path_scores, "criterion")
_MEAN_OVER = pa.field("mean_over", pa.list_(pa.int64()))


@dataclass(frozen=True)
class Request:
    """What one job wants of one run.

    Attributes:
        items: The masks, each a tuple of the heads to remove (layer * n_heads + head); or the triggers; or
            the criteria of paths.
        names: What each item is, in the columns of the answers' table (`criterion`, `draw`, ...).
        items_of: For every example, the indices of its items.
        key: Hash of all this, and of the rules by which triggers are inserted and paths are laid.
        mean_over: Examples over which mean contexts of heads are taken: a baseline of paths, and what stands
            in place of removed heads. Empty: zero stands there.
    """

    items: tuple[Any, ...]
    names: pa.Table
    items_of: Mapping[int, tuple[int, ...]]
    key: str
    mean_over: tuple[int, ...] = ()


def read_request(kind: str, rows: pa.Table, run: Row[Any]) -> Request:
    """Reads what a job requests of one run from the rows of its query.

    Args:
        kind: Kind of the pass: `masked_answers`, `attacked_answers` or `path_scores`.
        rows: The rows, of every run.
        run: The run.

    Raises:
        UserError: the rows are no such request.
    """
    if "run_id" not in rows.column_names:
        raise UserError("the job's query lacks the column run_id", got=", ".join(rows.column_names))
    own = rows.filter(pc.equal(rows["run_id"], run.run_id))
    if kind == "masked_answers":
        return mask_request(own, run.n_layers, run.n_heads)
    return path_request(own) if kind == "path_scores" else attack_request(own)


def mask_request(rows: pa.Table, n_layers: int, n_heads: int) -> Request:
    """Reads the rows of a job of kind `masked_answers`.

    Columns: `example_ids`, `heads` (layer * n_heads + head), and any of `criterion`, `direction`, `draw`,
    `step`, `layer`, `head` to say what the mask is. Where a row has a list `mean_over` of examples, the mean
    contexts over these stand in place of every head that the request removes.

    Raises:
        UserError: a column is missing or of another type, a head is not the model's, or a mask comes twice
            for an example.
    """

    def read(row: Mapping[str, Any]) -> tuple[int, ...]:
        foreign = [head for head in row["heads"] if not 0 <= head < n_layers * n_heads]
        if foreign:
            allowed = f"layer * {n_heads} + head, below {n_layers * n_heads}"
            raise UserError("a mask removes a head that the model lacks", got=foreign[0], allowed=allowed)
        return tuple(row["heads"])

    return _read(rows, _MASK, read, {}, _mean_over(rows))


def attack_request(rows: pa.Table) -> Request:
    """Reads the rows of a job of kind `attacked_answers`.

    Columns: `example_ids`, `tokens`, `segments`, `ratios`, and `pattern`, `control` and `draw` to say what
    the attack is.

    Raises:
        UserError: a column is missing or of another type, lists differ in length, a place is in no text, or
            an attack comes twice for an example.
    """

    def read(row: Mapping[str, Any]) -> Trigger:
        parts = [tuple(row[column]) for column in ("tokens", "segments", "ratios")]
        if len(set(map(len, parts))) != 1:
            raise UserError("an attack's lists must be of one length", got=_shown(row, _ATTACK))
        if not (set(row["segments"]) <= {0, 1} and all(0 < ratio <= 1 for ratio in row["ratios"])):
            raise UserError(
                "an attack inserts a token in no place of a text",
                got=f"{_shown(row, _ATTACK)}: segments {row['segments']}, ratios {row['ratios']}",
                allowed="segments 0 or 1, ratios above 0 and at most 1",
            )
        return Trigger(*parts)

    return _read(rows, _ATTACK, read, {"insertion": INSERTION_VERSION})


def path_request(rows: pa.Table) -> Request:
    """Reads the rows of a job of kind `path_scores`.

    Columns: `example_ids` and `criterion`, and with `attattr_mean` a list `mean_over` of examples, over which
    the mean contexts of heads are taken.

    Raises:
        UserError: a column is missing or of another type, a criterion is unknown or lacks its examples, or
            one comes twice for an example.
    """

    def read(row: Mapping[str, Any]) -> str:
        criterion = str(row["criterion"])
        if criterion not in CRITERIA:
            raise unknown_name("criterion of other paths", criterion, CRITERIA)
        if CRITERIA[criterion].baseline == "mean" and not mean_over:
            raise UserError(f"{criterion} needs examples to take means over", got="no column mean_over")
        return criterion

    mean_over = _mean_over(rows)
    return _read(rows, _PATH, read, {"paths": PATHS_VERSION}, mean_over)


def _mean_over(rows: pa.Table) -> tuple[int, ...]:
    """The examples over which mean contexts are taken; rows may leave it to another to name them."""
    if "mean_over" not in rows.column_names:
        return ()
    named = {tuple(one) for one in _column(rows, _MEAN_OVER).drop_null().to_pylist()}
    if len(named) > 1:
        raise UserError("a request takes mean contexts over different examples", got=f"{len(named)} lists")
    (found,) = named or [()]
    if len(found) > MOST_MEAN_ROWS:
        what = "a request takes mean contexts over too many examples"
        raise UserError(what, got=len(found), allowed=f"at most {MOST_MEAN_ROWS}")
    return found


def _read(
    rows: pa.Table,
    schema: pa.Schema,
    read: Callable[[Mapping[str, Any]], Any],
    rule: Mapping[str, Any],
    mean_over: tuple[int, ...] = (),
) -> Request:
    typed = pa.table([_column(rows, field) for field in schema], schema=schema)
    content = sorted(typed.to_pylist(), key=lambda row: (_shown(row, schema), row["example_ids"]))
    items = tuple(read(row) for row in content)
    of: dict[int, dict[str, int]] = {}
    for index, row in enumerate(content):
        name = _shown(row, schema)
        for example_id in row["example_ids"]:
            if name in of.setdefault(example_id, {}):
                raise UserError(
                    "a job requests the same answer twice for one example",
                    got=f"{name}, example {example_id}",
                )
            of[example_id][name] = index
    means = {"mean_over": mean_over, "paths": PATHS_VERSION} if mean_over else {}
    return Request(
        items,
        pa.Table.from_pylist(content, pa.schema(_names(schema))),
        {example_id: tuple(indices.values()) for example_id, indices in of.items()},
        content_key({"request": content, **rule, **means}),
        mean_over,
    )


def _column(rows: pa.Table, field: pa.Field) -> pa.Array:
    """A column in its type; null throughout where the query leaves out one that may be null."""
    if field.name not in rows.column_names:
        if field.nullable:
            return pa.nulls(len(rows), field.type)
        raise UserError(f"the job's query lacks the column {field.name}", got=", ".join(rows.column_names))
    try:
        column = rows[field.name].combine_chunks().cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            "a column of the job's query has the wrong type",
            got=f"{field.name}: {rows[field.name].type}",
            allowed=f"{field.type}",
        ) from error
    in_lists = column.flatten().null_count if pa.types.is_list(field.type) else 0
    if in_lists or (column.null_count and not field.nullable):
        raise UserError("a column of the job's query holds nulls", got=field.name)
    if pa.types.is_integer(field.type) and pc.any(pc.less(column, 0)).as_py():
        raise UserError("a column of the job's query holds negative numbers", got=field.name)
    return column


def _names(schema: pa.Schema) -> list[pa.Field]:
    """The columns that say what an item is."""
    return [field for field in schema if not pa.types.is_list(field.type)]


def _shown(row: Mapping[str, Any], schema: pa.Schema) -> str:
    """What an item is, for messages: `criterion random, draw 3, step 5`."""
    said = [f"{field.name} {row[field.name]}" for field in _names(schema) if row[field.name] is not None]
    return ", ".join(said) or "no name"
