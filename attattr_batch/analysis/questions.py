"""Questions to the store that the package asks: one SQL file each, in `jobs/questions`."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from attattr_batch.files import data_folder
from attattr_batch.store.database.sqlfile import load_file
from attattr_batch.store.writing.jobs import query_rows


def ask(connection: Connection, name: str, **values: Any) -> pa.Table:
    """Rows that answer a question.

    Args:
        connection: From `Store.read()`.
        name: Name of the file, without `.sql`.
        **values: Values of its parameters (`$name` in the file).
    """
    return query_rows(connection, _query(name), values)


@functools.cache
def _query(name: str) -> str:
    return load_file(data_folder("jobs") / "questions" / f"{name}.sql").query
