"""Checks Arrow rows against the columns of their table and inserts them in bulk."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table

from attattr_batch.errors import BadFactsError, did_you_mean
from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.database.tables import arrow_schema, query_name


def check_rows(table: Table, rows: pa.Table) -> pa.Table:
    """Casts rows to the table's columns and checks that they may be stored.

    Args:
        table: Where they are to go.
        rows: The rows; columns in any order, a nullable column may be left out.

    Returns:
        The rows with exactly the table's columns, in order, in its types.

    Raises:
        BadFactsError: a column is unknown or missing, a value does not fit its column, is null where it must
            not be, or is NaN or infinite.
    """
    name, schema = query_name(table), arrow_schema(table)
    unknown = set(rows.column_names) - set(schema.names)
    if unknown:
        worst = min(unknown)
        hint = did_you_mean(worst, schema.names)
        raise BadFactsError(f"{name}: unknown column {worst!r}" + (f"; {hint}" if hint else ""))
    columns = [_check_column(name, field, rows) for field in schema]
    return pa.table(columns, schema=schema)


def insert_rows(connection: Connection, table: Table, rows: pa.Table) -> None:
    """Appends Arrow rows to a table, in the connection's transaction."""
    if rows.num_rows == 0:
        return
    with arrow_rows(connection, "incoming_rows", rows):
        raw(connection).execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM incoming_rows")


def with_constant(rows: pa.Table, column: str, value: int | str) -> pa.Table:
    """Adds a column holding one value."""
    return rows.append_column(column, pa.repeat(pa.scalar(value), rows.num_rows))


def examples_where(rows: pa.Table, condition: pa.Array) -> tuple[int, ...]:
    """Ids, ascending, of the examples that have a row on which `condition` holds."""
    if "example_id" not in rows.column_names:
        return ()
    return tuple(sorted(set(rows.filter(condition)["example_id"].to_pylist())))


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
        _refuse_where(f"{label}: null where a value is needed", pc.is_null(column), rows)
    if pa.types.is_integer(column.type):
        _refuse_where(f"{label}: negative", pc.less(column, 0), rows)
    elif pa.types.is_floating(column.type):
        _refuse_where(f"{label}: NaN or infinite", pc.invert(pc.is_finite(column)), rows)
    elif pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        bad_values = pc.fill_null(pc.invert(pc.is_finite(pc.list_flatten(column))), True)
        bad_rows = pc.list_parent_indices(column).filter(bad_values)
        condition = pc.is_in(pa.array(range(len(column)), bad_rows.type), bad_rows)
        _refuse_where(f"{label}: null, NaN or infinite in the list", condition, rows)
    return column


def _refuse_where(message: str, condition: pa.Array, rows: pa.Table) -> None:
    condition = pc.fill_null(condition, False)
    if pc.any(condition, min_count=0).as_py():
        raise BadFactsError(message, examples_where(rows, condition))
