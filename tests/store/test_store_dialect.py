"""What we rely on in duckdb-sqlalchemy and DuckDB; a new version of either must keep it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from helpers.fabricate import new_store
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.database.tables import metadata


@pytest.fixture
def connection() -> Iterator[Connection]:
    with create_engine("duckdb://").connect() as one:
        yield one


def test_a_second_statement_loses_no_rows_of_the_first(connection: Connection) -> None:
    first = connection.execute(text("SELECT range FROM range(100000)"))
    assert first.fetchone() == (0,)
    assert connection.execute(text("SELECT 7")).scalar_one() == 7
    assert len(first.fetchall()) == 99_999


def test_a_raw_result_must_be_drained_first(connection: Connection) -> None:
    with duckdb.connect() as duck:
        duck.execute("SELECT range FROM range(100000)").fetchone()
        try:
            rows = duck.execute("SELECT 7").fetchall()
        except duckdb.Error as error:
            assert "open result" in str(error)
        else:
            assert rows == [(7,)]


def test_arrow_rows_share_the_transaction(connection: Connection) -> None:
    with connection.begin():
        connection.execute(text("CREATE TABLE t (a SMALLINT, b FLOAT[])"))
    rows = pa.table({"b": [[0.5], [1.5, 2.5]], "a": [1, 2]})
    with connection.begin() as transaction:
        connection.execute(text("INSERT INTO t VALUES (0, [])"))
        with arrow_rows(connection, "rows_in", rows):
            raw(connection).execute("INSERT INTO t BY NAME SELECT * FROM rows_in")
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 3
        transaction.rollback()
    assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 0


def test_arrow_rows_are_gone_afterwards(connection: Connection) -> None:
    with arrow_rows(connection, "rows_in", pa.table({"a": [1]})):
        assert connection.execute(text("SELECT a FROM rows_in")).scalar_one() == 1
    with pytest.raises(ProgrammingError, match="rows_in"):
        connection.execute(text("SELECT a FROM rows_in"))


def test_on_conflict_returns_only_new_rows(connection: Connection) -> None:
    with connection.begin():
        connection.execute(text("CREATE TABLE l (a INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO l VALUES (1), (3)"))
    statement = "INSERT INTO l SELECT unnest([1, 2, 3, 4]) ON CONFLICT DO NOTHING RETURNING a"
    with connection.begin():
        assert sorted(connection.execute(text(statement)).scalars()) == [2, 4]


def test_reflection_knows_our_types(tmp_path: Path) -> None:
    with new_store(tmp_path).read() as connection:
        columns = {c["name"]: str(c["type"]) for c in inspect(connection).get_columns("predictions")}
        assert columns["gold"] == "SMALLINT"
        assert columns["prob_gold"] in ("REAL", "FLOAT")
        assert inspect(connection).get_pk_constraint("ledger")["constrained_columns"] == [
            "pass_id",
            "example_id",
        ]
        comment = inspect(connection).get_table_comment("ledger")["text"]
        assert comment == metadata.tables["ledger"].comment


def test_alembic_sees_a_difference(tmp_path: Path) -> None:
    """The check that tables and migrations agree would be worth nothing if it saw no differences."""
    with new_store(tmp_path).write() as connection:
        connection.execute(text("ALTER TABLE tokens DROP COLUMN segment"))
        connection.execute(text("ALTER TABLE vocabulary ALTER token_id TYPE BIGINT"))
        found = str(compare_metadata(MigrationContext.configure(connection), metadata))
    assert "segment" in found
    assert "BIGINT" in found
