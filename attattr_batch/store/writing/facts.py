"""Checks a chunk's facts: an attribution pass gives exactly one row for every key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Row

from attattr_batch.choices import Target
from attattr_batch.errors import BadFactsError
from attattr_batch.store.writing.rows import examples_where

_TARGETS = get_args(Target)


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
            _refuse(
                f"{name}: rows of a target the example does not have", tables[name], ~np.isin(owners, wanted)
            )


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
    if predictions["gold"].null_count:
        raise BadFactsError(
            "predictions: no gold label in a run that attributes it",
            examples_where(predictions, pc.is_null(predictions["gold"])),
        )
    coincide = _numbers(predictions, "gold") == _numbers(predictions, "predicted")
    codes = [
        ids[coincide] * len(_TARGETS) + _TARGETS.index("both"),
        ids[~coincide] * len(_TARGETS) + _TARGETS.index("gold"),
        ids[~coincide] * len(_TARGETS) + _TARGETS.index("predicted"),
    ]
    return np.concatenate(codes)


def _keys(rows: pa.Table, grid: tuple[int, int], level: int) -> NDArray[np.int64]:
    """One integer a row for (example_id, target), with layer at level 1, and head at level 2."""
    codes = pc.index_in(rows["target"], pa.array(_TARGETS))
    if codes.null_count:
        unknown = pc.is_null(codes)
        raise BadFactsError("target must be gold, predicted or both", examples_where(rows, unknown))
    keys: NDArray[np.int64] = _numbers(rows, "example_id") * len(_TARGETS) + codes.to_numpy().astype(np.int64)
    for column, size in list(zip(("layer", "head"), grid, strict=True))[:level]:
        values = _numbers(rows, column)
        _refuse(f"{column} must be below {size}", rows, values >= size)
        keys = keys * size + values
    return keys


def _check_keys(
    name: str, rows: pa.Table, keys: NDArray[np.int64], expected: NDArray[np.int64], per_example: int
) -> None:
    """Checks that `keys`, one a row, are `expected` in any order; key // per_example is the example."""
    if np.array_equal(np.sort(keys), np.sort(expected)):
        return  # finding out what is wrong takes ten times as long
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    repeated = np.zeros(len(keys), dtype=bool)
    repeated[first[counts > 1]] = True
    _refuse(f"{name}: more than one row for a key", rows, repeated)
    _refuse(f"{name}: rows that do not belong", rows, ~np.isin(keys, expected))
    missing = np.setdiff1d(expected, keys)
    if len(missing):
        at_fault = tuple(np.unique(missing // per_example).tolist())
        raise BadFactsError(f"{name}: {len(missing)} of {len(expected)} rows are missing", at_fault)


def _refuse(message: str, rows: pa.Table, bad: NDArray[np.bool_]) -> None:
    if bad.any():
        raise BadFactsError(message, examples_where(rows, pa.array(bad)))


def _numbers(rows: pa.Table, column: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = rows[column].to_numpy().astype(np.int64)
    return values
