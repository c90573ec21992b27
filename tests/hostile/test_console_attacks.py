"""The SQL console under attack: `console_attacks.txt` says with what, and what must come of it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.fabricate import filled_store

from attattr_batch.errors import UserError
from attattr_batch.store.reading.console import query

HERE = Path(__file__).resolve().parent
MARKER = "SECRET-MARKER"

# Once as the console answers, and once past the check of the statement's kind, which is not what protects.
ATTACK = """
import json, sys
from pathlib import Path
import duckdb, pyarrow
from attattr_batch.errors import UserError
from attattr_batch.store.reading.console_child import _check_statement, open_locked
connection = open_locked(Path(sys.argv[1]), 256, 300)
python_secret = pyarrow.table({"a": ["SECRET-MARKER"]})
def answer(sql, checked):
    try:
        if not checked:
            return repr(connection.execute(sql).fetchmany(1000))
        _check_statement(sql)
        rows = connection.sql(sql)
        return "no rows" if rows is None else repr(rows.to_arrow_reader(2048).read_all().to_pylist())
    except (duckdb.Error, UserError, OSError):  # once rows are streaming, errors of DuckDB are OSErrors
        return None
    finally:
        try:
            connection.rollback()
        except duckdb.Error:
            pass  # no statement has begun a transaction
outcomes = [[answer(sql, True), answer(sql, False)] for sql in json.load(sys.stdin)]
print(json.dumps(outcomes))
"""


def attacks() -> Iterator[tuple[str, str]]:
    """Category and statement."""
    category = ""
    for line in (HERE / "console_attacks.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            category = line.strip("[]")
        elif line and not line.startswith("#"):
            yield category, line


ATTACKS = list(attacks())
RESOURCE = ("endless", "large", "quick")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return filled_store(tmp_path / "store").path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that hold the marker."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "secret.csv").write_text(f"a,b\n{MARKER},2\n")
    (secrets / "secret.json").write_text(f'[{{"a": "{MARKER}"}}]')
    (secrets / "evil.duckdb_extension").write_text(MARKER)
    duckdb.values([MARKER]).write_parquet(str(secrets / "secret.parquet"))
    with duckdb.connect(str(secrets / "theirs.duckdb")) as connection:
        connection.execute(f"CREATE TABLE theirs AS SELECT '{MARKER}' AS a")
    with sqlite3.connect(secrets / "theirs.sqlite") as other:
        other.execute(f"CREATE TABLE t AS SELECT '{MARKER}' AS a")
    other.close()
    return secrets


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 150
    assert len(set(ATTACKS)) == len(ATTACKS)


def test_every_attack_is_refused_or_reaches_nothing(store: Path, folder: Path) -> None:
    before = state(store.parent), state(folder)
    quick = [(category, sql) for category, sql in ATTACKS if category not in RESOURCE]
    statements = [sql.replace("FOLDER", str(folder)).replace("STORE", str(store)) for _, sql in quick]
    done = subprocess.run(
        [sys.executable, "-c", ATTACK, str(store)],
        input=json.dumps(statements),
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "ATTATTR_SECRET": MARKER},
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[list[Any]] = json.loads(done.stdout)
    succeeded = {
        sql: (checked, unchecked)
        for (category, sql), (checked, unchecked) in zip(quick, outcomes, strict=True)
        if category != "harmless" and (checked is not None or unchecked is not None)
    }
    assert succeeded == {}
    told = [
        sql
        for (_, sql), answers in zip(quick, outcomes, strict=True)
        if any(MARKER in (one or "") for one in answers)
    ]
    assert told == []
    assert (state(store.parent), state(folder)) == before


def of(category: str) -> list[str]:
    return [sql for kind, sql in ATTACKS if kind == category]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "refusal", "timeout_s"),
    [(sql, "ran longer than 1.5 s and was stopped", 1.5) for sql in of("endless")]
    + [(sql, "needs more memory than it may use\n  allowed: 128 MiB", 120.0) for sql in of("large")],
)
def test_a_query_that_wants_everything_ends_alone(
    store: Path, sql: str, refusal: str, timeout_s: float
) -> None:
    """Stopped by the deadline or its share of memory; the console goes on."""
    with pytest.raises(UserError) as caught:
        query(store, sql, timeout_s=timeout_s, memory_mib=128)
    assert refusal in str(caught.value)
    assert query(store, "SELECT count(*) FROM runs").rows == [(1,)]


@pytest.mark.parametrize("sql", of("quick"))
def test_a_query_that_seems_to_want_everything_is_answered(store: Path, sql: str) -> None:
    _, _, expected = sql.partition(" -- gives: ")
    try:
        given = repr(query(store, sql, timeout_s=120, memory_mib=128).rows)
    except UserError as error:
        given = str(error).partition("Invalid Input Error: ")[2]
    assert given == expected


def test_there_is_an_answer_to_every_attack_on_resources() -> None:
    assert sum(len(of(category)) for category in RESOURCE) >= 18
