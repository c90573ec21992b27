"""Questions to the store that ship as SQL files: figures', pages' and those that the SQL page offers."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from attattr_batch.files import data_folder
from attattr_batch.store.database.sqlfile import SqlFile, load_file
from attattr_batch.store.writing.jobs import define_macros, query_rows


@functools.cache
def question(name: str) -> SqlFile:
    """The file `dashboards/NAME.sql`: `figures/heads`, for example."""
    return load_file(data_folder("dashboards") / f"{name}.sql")


def ask(connection: Connection, name: str, /, **values: Any) -> pa.Table:
    """Rows that answer a question; `values` are its parameters. It may use the macros of jobs."""
    define_macros(connection)
    return query_rows(connection, question(name).query, values)
