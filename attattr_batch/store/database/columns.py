"""Column types, and the columns that many tables share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Column, Table
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    import pyarrow as pa

# Signed, and never below 16 bits: DuckDB keeps the column's type in `query_pos - key_pos` and `layer * 12 +
# head`, which would overflow in an unsigned or 8-bit type. Compressed, the wider columns take no more room.
ID = sa.Integer()
SMALL = sa.SmallInteger()
FLOAT: sa.REAL[float] = sa.REAL()
TEXT = sa.String()
TIME = sa.TIMESTAMP(timezone=True)

_SHARED: dict[str, tuple[TypeEngine[Any], str]] = {
    "run_id": (ID, "Run that the row belongs to (runs.run_id)."),
    "pass_id": (ID, "Pass that the row belongs to (passes.pass_id)."),
    "example_id": (ID, "Example: 0-based row of the dataset split."),
    "layer": (SMALL, "Encoder layer, 0-based from the embedding side."),
    "head": (SMALL, "Attention head within the layer, 0-based."),
    "target": (TEXT, "Class attributed: `gold`, `predicted`, or `both` where the two coincide."),
    "query_pos": (SMALL, "Position of the attending token (row i of the matrix), 0-based."),
    "key_pos": (SMALL, "Position of the attended token (column j of the matrix), 0-based."),
    "job": (TEXT, "Job that requested the answer (jobs/sql)."),
    "predicted": (SMALL, "Label id with the largest probability."),
    "prob_gold": (FLOAT, "Probability of the gold label; null if unlabelled."),
    "logits": (
        sa.ARRAY(FLOAT),
        "Class score (logit) of every label, in the dataset's id order; null in answers of an earlier"
        " release.",
    ),
}

metadata = sa.MetaData()


def table(name: str, comment: str, *columns: Column[Any], key: str, written_by: str = "store") -> Table:
    """A table of the store; `key` are its key columns, separated by spaces."""
    info = {"key": tuple(key.split()), "written_by": written_by}
    return Table(name, metadata, *columns, comment=comment, info=info)


def facts(name: str, comment: str, shared_key: str, *columns: Column[Any], more_key: str = "") -> Table:
    """A table of facts: first the shared columns of its key, then its own, some of which may be key too."""
    key = f"{shared_key} {more_key}"
    return table(name, comment, *shared(shared_key), *columns, key=key, written_by="chunk")


def column(
    name: str, type_: TypeEngine[Any], comment: str, *, volatile: bool = False, **options: Any
) -> Column[Any]:
    """A column that may not be null unless `nullable=True`; `volatile=True` keeps it out of exports."""
    options = {"nullable": False, "autoincrement": False} | options
    return Column(name, type_, comment=comment, info={"volatile": volatile}, **options)


def optional(name: str, type_: TypeEngine[Any], comment: str) -> Column[Any]:
    """A column that may be null."""
    return column(name, type_, comment, nullable=True)


def shared(names: str, **options: Any) -> list[Column[Any]]:
    """Columns that several tables have, by their names, separated by spaces; with options of `column`."""
    return [column(name, *_SHARED[name], **options) for name in names.split()]


def arrow_type(type_: TypeEngine[Any]) -> pa.DataType:
    """The Arrow type of a column type."""
    import pyarrow as pa  # not above: commands that only read a few rows start without it

    if isinstance(type_, sa.ARRAY):
        return pa.list_(arrow_type(type_.item_type))
    types: dict[type[Any], pa.DataType] = {
        sa.Integer: pa.int32(),
        sa.SmallInteger: pa.int16(),
        sa.DOUBLE: pa.float64(),
        sa.REAL: pa.float32(),
        sa.String: pa.string(),
        sa.Boolean: pa.bool_(),
        sa.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    }
    return types[type(type_)]
