"""Questions to the store that ship as SQL files, one file each."""

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
    """The file of a question.

    For example `figures/heads` is `dashboards/figures/heads.sql`. A name without a folder is in
    `jobs/questions`.
    """
    folder = data_folder("dashboards") if "/" in name else data_folder("jobs") / "questions"
    return load_file(folder / f"{name}.sql")


def ask(connection: Connection, name: str, /, **values: Any) -> pa.Table:
    """Rows that answer a question.

    Args:
        connection: From `Store.read()`.
        name: The question; it may use the macros of jobs (jobs/macros.sql).
        **values: Values of its parameters (`$name` in the file).
    """
    define_macros(connection)
    return query_rows(connection, question(name).query, values)
