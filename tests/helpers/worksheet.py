"""Runs the query of one job or audit on rows written by hand, in a database that lives in memory.

Every table of the store and of every job is there, empty, with its real column types; nothing is NOT NULL, so
that a case names only the columns that matter. A job's view is a table where a case gives it rows. Tables are
written as text: a line of column names, then one line a row, the cells (YAML) separated by spaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from attattr_batch.analysis.catalogue import Catalogue, Job, load_catalogue, read_parameters
from attattr_batch.store.database.connection import raw
from attattr_batch.store.database.tables import metadata, query_name
from attattr_batch.store.writing.jobs import explained, prepare, query_rows

Row = dict[str, Any]


class Worksheet:
    """The empty tables.

    Attributes:
        catalogue: Every job and audit.
    """

    def __init__(self) -> None:
        self.catalogue: Catalogue = load_catalogue()
        engine = create_engine("duckdb:///:memory:", poolclass=StaticPool)
        self._connection = engine.connect()
        with self._connection.begin():
            for table in metadata.tables.values():
                types = [f'"{one.name}" {one.type.compile(engine.dialect)}' for one in table.columns]
                raw(self._connection).execute(f"CREATE TABLE {query_name(table)} ({', '.join(types)})")
            prepare(self._connection, [])
            for job in self.catalogue.jobs.values():
                if not job.is_pass:
                    values = read_parameters([job], {})[job.name]
                    make = f"CREATE {job.materialized} {job.name} AS\n{job.file.query}"
                    raw(self._connection).execute(make, values)

    @contextmanager
    def filled(self, given: Mapping[str, str], runs: Sequence[int] | None = None) -> Iterator[Connection]:
        """The tables with rows in them, for a while.

        Args:
            given: Rows by table, as text.
            runs: Runs that jobs are built for; every run given by default.
        """
        transaction = self._connection.begin()
        try:
            duck = raw(self._connection)
            for table, text in given.items():
                if table in self.catalogue.jobs and self.catalogue.job(table).materialized == "view":
                    duck.execute(f"CREATE TABLE given_view AS FROM {table}; DROP VIEW {table}")
                    duck.execute(f"ALTER TABLE given_view RENAME TO {table}")
                for row in read_table(text):
                    names = ", ".join(f'"{name}"' for name in row)
                    marks = ", ".join("?" for _ in row)
                    duck.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))
            known = [run_id for (run_id,) in duck.execute("SELECT run_id FROM runs").fetchall()]
            prepare(self._connection, known if runs is None else runs)
            yield self._connection
        finally:
            transaction.rollback()

    def answer(self, job: Job, case: Mapping[str, Any]) -> list[Row]:
        """What the job makes of a case's rows; with `ask`, what that query says of them (table `result`)."""
        given = {name: str(value) for name, value in case.get("params", {}).items()}
        values = read_parameters([job], given)[job.name]
        with self.filled(case["given"], case.get("runs")) as connection, explained(job.name):
            result = query_rows(connection, job.file.query, values)
            if "ask" not in case:
                return list(result.to_pylist())
            duck = raw(connection)
            duck.register("result", result)
            try:
                return list(duck.sql(case["ask"]).to_arrow_table().to_pylist())
            finally:
                duck.unregister("result")


def read_table(text: str) -> list[Row]:
    """Reads a table written as text."""
    names, *lines = [line.split() for line in text.splitlines() if line.strip()]
    for cells in lines:
        assert len(cells) == len(names), f"{cells} do not fit {names}"
    return [dict(zip(names, map(yaml.safe_load, cells), strict=True)) for cells in lines]


def assert_rows(found: Sequence[Row], expected: Sequence[Row], tolerance: float = 1e-6) -> None:
    """Asserts that the rows are the expected ones, in any order, in the columns that are expected."""
    left = list(found)
    for row in expected:
        same = [one for one in left if _is(one, row, tolerance)]
        assert same, f"missing: {row}\nleft over: {left}"
        left.remove(same[0])
    assert not left, f"left over: {left}"


def _is(found: Row, expected: Row, tolerance: float) -> bool:
    return all(_equal(found[name], value, tolerance) for name, value in expected.items())


def _equal(found: object, expected: object, tolerance: float) -> bool:
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        return all(_equal(one, other, tolerance) for one, other in zip(found, expected, strict=True))
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return isinstance(expected, bool) == isinstance(found, bool) and found == pytest.approx(
            expected, abs=tolerance, rel=0
        )
    return found == expected


def load_cases(folder: Path) -> dict[str, Any]:
    """The content of every YAML file of a folder, by the file's stem."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yaml")}
