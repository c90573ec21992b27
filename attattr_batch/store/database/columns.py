"""Column types, and the columns that many tables share."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import (
    ARRAY,
    DOUBLE,
    REAL,
    TIMESTAMP,
    Boolean,
    Column,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
)
from sqlalchemy.types import TypeEngine

# Signed, and never below 16 bits: DuckDB keeps the column's type in `query_pos - key_pos` and `layer * 12 +
# head`, which would overflow in an unsigned or 8-bit type. Compressed, the wider columns take no more room.
ID = Integer()
SMALL = SmallInteger()
FLOAT: REAL[float] = REAL()
TEXT = String()
TIME = TIMESTAMP(timezone=True)

_ARROW_TYPES: dict[type[Any], pa.DataType] = {
    Integer: pa.int32(),
    SmallInteger: pa.int16(),
    DOUBLE: pa.float64(),
    REAL: pa.float32(),
    String: pa.string(),
    Boolean: pa.bool_(),
    TIMESTAMP: pa.timestamp("us", tz="UTC"),
}


metadata = MetaData()


def table(name: str, comment: str, *columns: Column[Any], key: str, written_by: str) -> Table:
    """A table of the store; `key` are its key columns, separated by spaces."""
    info = {"key": tuple(key.split()), "written_by": written_by}
    return Table(name, metadata, *columns, comment=comment, info=info)


def column(name: str, type_: TypeEngine[Any], comment: str, **options: Any) -> Column[Any]:
    """A column that may not be null unless `nullable=True`; `volatile=True` keeps it out of exports."""
    volatile = options.pop("volatile", False)
    nullable = options.pop("nullable", False)
    return Column(
        name,
        type_,
        comment=comment,
        nullable=nullable,
        autoincrement=False,
        info={"volatile": volatile},
        **options,
    )


def optional(name: str, type_: TypeEngine[Any], comment: str) -> Column[Any]:
    """A column that may be null."""
    return column(name, type_, comment, nullable=True)


def run_id(**options: Any) -> Column[Any]:
    """The run a row belongs to."""
    return column("run_id", ID, "Run that the row belongs to (runs.run_id).", **options)


def pass_id(**options: Any) -> Column[Any]:
    """The pass a row belongs to."""
    return column("pass_id", ID, "Pass that the row belongs to (passes.pass_id).", **options)


def example_id(**options: Any) -> Column[Any]:
    """The example a row belongs to."""
    return column("example_id", ID, "Example: 0-based row of the dataset split.", **options)


def layer(**options: Any) -> Column[Any]:
    """The layer a row is about."""
    return column("layer", SMALL, "Encoder layer, 0-based from the embedding side.", **options)


def head(**options: Any) -> Column[Any]:
    """The head a row is about."""
    return column("head", SMALL, "Attention head within the layer, 0-based.", **options)


def target() -> Column[Any]:
    """The class a row is about."""
    comment = "Class attributed: `gold`, `predicted`, or `both` where the two coincide."
    return column("target", TEXT, comment)


def query_pos() -> Column[Any]:
    """The row of an entry of the matrix."""
    return column("query_pos", SMALL, "Position of the attending token (row i of the matrix), 0-based.")


def key_pos() -> Column[Any]:
    """The column of an entry of the matrix."""
    return column("key_pos", SMALL, "Position of the attended token (column j of the matrix), 0-based.")


def requested_by() -> Column[Any]:
    """The job that a row of answers was computed for."""
    return column("job", TEXT, "Job that requested the answer (jobs/sql).")


def answer() -> tuple[Column[Any], ...]:
    """What the model answers."""
    return (
        column("predicted", SMALL, "Label id with the largest probability."),
        optional("prob_gold", FLOAT, "Probability of the gold label; null if unlabelled."),
    )


def arrow_type(type_: TypeEngine[Any]) -> pa.DataType:
    """The Arrow type of a column type."""
    if isinstance(type_, ARRAY):
        return pa.list_(arrow_type(type_.item_type))
    return _ARROW_TYPES[type(type_)]
