"""Checks Arrow rows and inserts them in bulk: values fit their columns, and a chunk has exactly its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Table

from attattr_batch.choices import Target
from attattr_batch.errors import BadFactsError
from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.database.tables import arrow_schema, query_name

_TARGETS = get_args(Target)


def check_rows(table: Table, rows: pa.Table, **constants: int | str) -> pa.Table:
    """Casts rows to the table's columns and checks that they may be stored.

    Args:
        table: Where they are to go.
        rows: The rows; columns in any order, a nullable column may be left out.
        constants: Columns to be added that hold one value.

    Returns:
        The rows with exactly the table's columns, in order, in its types.

    Raises:
        BadFactsError: a column is unknown or missing, a value does not fit its column, is null where it must
            not be, or is NaN or infinite.
    """
    name, schema = query_name(table), arrow_schema(table)
    for column, value in constants.items():
        rows = rows.append_column(column, pa.repeat(pa.scalar(value), rows.num_rows))
    if unknown := set(rows.column_names) - set(schema.names):
        raise BadFactsError(f"{name}: unknown column {min(unknown)!r}")
    columns = [_check_column(name, field, rows) for field in schema]
    return pa.table(columns, schema=schema)


def insert_rows(connection: Connection, table: Table, rows: pa.Table) -> None:
    """Appends Arrow rows to a table, in the connection's transaction."""
    if rows.num_rows == 0:
        return
    with arrow_rows(connection, "incoming_rows", rows):
        raw(connection).execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM incoming_rows")


def refuse(message: str, rows: pa.Table, bad: pa.Array | pa.ChunkedArray) -> None:
    """Raises `BadFactsError`, which names the examples of the rows that are `bad`, if there are any."""
    bad = pc.fill_null(bad, False)
    if pc.any(bad, min_count=0).as_py():
        named = rows.filter(bad)["example_id"].to_pylist() if "example_id" in rows.column_names else []
        raise BadFactsError(message, tuple(sorted(set(named))))


def check_attribution(tables: Mapping[str, pa.Table], example_ids: pa.Array, of_pass: Row[Any]) -> None:
    """Checks the rows of one chunk of an attribution pass, all tables together.

    Every example must have one prediction, and for each of its targets one `target_scores` row, one
    `layer_scores` row a layer and one `head_scores` row a head. `edges` and `layer_edges` may have any
    number, within the model's layers and heads and the example's targets.

    Args:
        tables: Rows by query name, already cast to their tables' types.
        example_ids: The chunk's examples, int32, ascending.
        of_pass: The pass's row from `find_pass`: layers, heads and targets of its run.

    Raises:
        BadFactsError: says which table and which examples.
    """
    missing = {"predictions", "target_scores", "layer_scores", "head_scores"} - set(tables)
    if missing:
        raise BadFactsError(f"the chunk lacks the tables {', '.join(sorted(missing))}")
    ids = example_ids.to_numpy(zero_copy_only=False)
    predictions = tables["predictions"]
    _check_keys("predictions", predictions, _numbers(predictions, "example_id"), ids, 1)
    wanted = _wanted_targets(predictions, of_pass.targets)
    grid = (of_pass.n_layers, of_pass.n_heads)
    sizes = (1, grid[0], grid[0] * grid[1])  # rows for one (example, target), by level
    for level, name in enumerate(("target_scores", "layer_scores", "head_scores")):
        expected = (wanted[:, None] * sizes[level] + np.arange(sizes[level])).ravel()
        keys = _keys(tables[name], grid, level)
        _check_keys(name, tables[name], keys, expected, sizes[level] * len(_TARGETS))
    for level, name in ((1, "layer_edges"), (2, "edges")):
        if name in tables:
            owners = _keys(tables[name], grid, level) // sizes[level]
            foreign = pa.array(~np.isin(owners, wanted))
            refuse(f"{name}: rows of a target the example does not have", tables[name], foreign)


def check_answers(tables: Mapping[str, pa.Table], example_ids: pa.Array) -> None:
    """Checks that a chunk of a requested pass answers each of its examples; how often, only the request says.

    Raises:
        BadFactsError: names the examples without an answer.
    """
    answered = {one for rows in tables.values() for one in rows["example_id"].to_pylist()}
    if missing := set(example_ids.to_pylist()) - answered:
        raise BadFactsError("examples without an answer", tuple(sorted(missing)))


def _wanted_targets(predictions: pa.Table, target: str) -> NDArray[np.int64]:
    """Codes of the (example, target) pairs that must be there: example_id * 3 + index of the target."""
    ids = _numbers(predictions, "example_id")
    if target != "both":
        return ids * len(_TARGETS) + _TARGETS.index(target)
    unlabelled = pc.is_null(predictions["gold"])
    refuse("predictions: no gold label in a run that attributes it", predictions, unlabelled)
    coincide = _numbers(predictions, "gold") == _numbers(predictions, "predicted")
    first = np.where(coincide, _TARGETS.index("both"), _TARGETS.index("gold"))
    second = ids[~coincide] * len(_TARGETS) + _TARGETS.index("predicted")
    return np.concatenate([ids * len(_TARGETS) + first, second])


def _keys(rows: pa.Table, grid: tuple[int, int], level: int) -> NDArray[np.int64]:
    """One integer a row for (example_id, target), with layer at level 1, and head at level 2."""
    codes = pc.index_in(rows["target"], pa.array(_TARGETS))
    refuse("target must be gold, predicted or both", rows, pc.is_null(codes))
    keys: NDArray[np.int64] = _numbers(rows, "example_id") * len(_TARGETS) + codes.to_numpy().astype(np.int64)
    for column, size in list(zip(("layer", "head"), grid, strict=True))[:level]:
        values = _numbers(rows, column)
        refuse(f"{column} must be below {size}", rows, pa.array(values >= size))
        keys = keys * size + values
    return keys


def _check_keys(
    name: str, rows: pa.Table, keys: NDArray[np.int64], expected: NDArray[np.int64], per_example: int
) -> None:
    """Checks that `keys`, one a row, are `expected` in any order; key // per_example is the example."""
    if np.array_equal(np.sort(keys), np.sort(expected)):
        return  # finding out what is wrong takes ten times as long
    distinct, counts = np.unique(keys, return_counts=True)
    repeated = np.isin(keys, distinct[counts > 1])
    refuse(f"{name}: more than one row for a key", rows, pa.array(repeated))
    refuse(f"{name}: rows that do not belong", rows, pa.array(~np.isin(keys, expected)))
    missing = np.setdiff1d(expected, keys)
    if len(missing):
        at_fault = tuple(np.unique(missing // per_example).tolist())
        raise BadFactsError(f"{name}: {len(missing)} of {len(expected)} rows are missing", at_fault)


def _numbers(rows: pa.Table, column: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = rows[column].to_numpy().astype(np.int64)
    return values


def _check_column(name: str, field: pa.Field, rows: pa.Table) -> pa.Array:
    label = f"{name}.{field.name}"
    if field.name not in rows.column_names:
        if not field.nullable:
            raise BadFactsError(f"{label}: the column is missing")
        return pa.nulls(rows.num_rows, field.type)
    try:
        column = rows[field.name].cast(field.type).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadFactsError(f"{label}: a value does not fit {field.type}: {error}") from error
    if not field.nullable:
        refuse(f"{label}: null where a value is needed", rows, pc.is_null(column))
    if pa.types.is_integer(column.type):
        refuse(f"{label}: negative", rows, pc.less(column, 0))
    elif pa.types.is_floating(column.type):
        refuse(f"{label}: NaN or infinite", rows, pc.invert(pc.is_finite(column)))
    elif pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        bad_values = pc.fill_null(pc.invert(pc.is_finite(pc.list_flatten(column))), True)
        bad_rows = pc.list_parent_indices(column).filter(bad_values)
        condition = pc.is_in(pa.array(range(len(column)), bad_rows.type), bad_rows)
        refuse(f"{label}: null, NaN or infinite in the list", rows, condition)
    return column
