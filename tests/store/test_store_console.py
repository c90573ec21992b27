"""The SQL console reads the store, and nothing that it is given reaches beyond it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from helpers.fabricate import filled_store, new_store

from attattr_batch.errors import StoreError, UserError
from attattr_batch.store.reading import console
from attattr_batch.store.reading.console import query

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_store(tmp_path_factory.mktemp("console")).path


def test_rows_come_back_with_their_types(path: Path) -> None:
    result = query(
        path,
        "SELECT count(*) AS n, sum((gold = predicted)::INT) AS ok, max(prob_gold) AS p, [1.5::FLOAT] AS l,"
        " 0.50::DECIMAL(4, 2) AS d, DATE '2020-01-02' AS day, NULL AS nothing, 2::HUGEINT ** 100 AS big,"
        " {'a': 1} AS s, 'ü😀' AS t, INTERVAL '1 month 2 days 1.5 seconds' AS took FROM predictions",
    )
    assert result.columns == ["n", "ok", "p", "l", "d", "day", "nothing", "big", "s", "t", "took"]
    (row,) = result.rows
    assert row[:4] == (8, 6, 0.75, [1.5])
    assert [type(value) for value in row[:3]] == [int, int, float]
    assert row[4] == Decimal("0.50")
    assert str(row[5]) == "2020-01-02"
    assert row[6] is None
    assert row[8:] == ({"a": 1}, "ü😀", timedelta(days=32, seconds=1.5))
    assert result.table.schema.field("p").type == pa.float32()
    assert not result.truncated


@pytest.mark.parametrize("asked", [5, 48, None])
def test_rows_are_cut_at_the_limit_and_it_says_so(path: Path, asked: int | None) -> None:
    result = query(path, "SELECT * FROM head_scores WHERE target = 'gold' ORDER BY ALL", max_rows=asked)
    assert len(result.rows) == min(asked or 48, 48)
    assert result.truncated == (asked == 5)


def test_a_huge_result_is_not_computed_to_its_end(path: Path) -> None:
    # A terabyte: to its end there is no time that it would be done in.
    result = query(path, "SELECT a.range, repeat('x', 1000) FROM range(1000000000) AS a", timeout_s=120)
    assert (len(result.rows), result.truncated) == (1000, True)


def test_a_result_without_rows_has_columns(path: Path) -> None:
    result = query(path, "SELECT run_id, name FROM runs WHERE run_id = 9")
    assert (result.columns, result.rows, result.truncated) == (["run_id", "name"], [], False)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT CASE WHEN range = 90000 THEN error('late') END FROM range(100000)", "late"),
        ("", "give one statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DELETE FROM runs", "only queries that read"),
        ("DROP TABLE runs", "only queries that read"),
        ("COPY runs TO '/tmp/stolen.csv'", "only queries that read"),
        ("ATTACH '/tmp/other.duckdb'", "only queries that read"),
        ("INSTALL httpfs", "only queries that read"),
        ("SET memory_limit = '1TB'", "only queries that read"),
        ("PRAGMA database_list", "only queries that read"),
        ("SELECT '\ud800'", "not valid Unicode"),
    ],
)
def test_errors_are_the_users(path: Path, sql: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        query(path, sql, max_rows=None)


def test_a_store_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database yet"):
        query(tmp_path / "no.duckdb", "SELECT 1")
    with duckdb.connect(str(tmp_path / "theirs.duckdb")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
    with pytest.raises(StoreError, match="not one of attattr_batch"):
        query(tmp_path / "theirs.duckdb", "SELECT * FROM t")


def test_an_endless_query_is_stopped_at_the_deadline(path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="ran longer than 1.5 s"):
        query(path, "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c", timeout_s=1.5)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 2000000000))",
        "SELECT list(range) FROM range(1000000000)",
    ],
)
def test_a_query_that_eats_memory_ends_itself_alone(path: Path, sql: str) -> None:
    with pytest.raises(UserError, match="more memory than it may use"):
        query(path, sql, memory_mib=256, timeout_s=120)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "more memory than it may use"),
        (signal.SIGABRT, "more memory than it may use"),
        (signal.SIGSEGV, "the query failed\n.*its process was ended: Segmentation fault"),
        (signal.SIGTERM, "the query failed\n.*its process was ended: Terminated"),
    ],
)
def test_a_child_that_is_ended_says_how(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    boot = f"import os; os.kill(os.getpid(), {int(number)})"
    monkeypatch.setattr(
        console, "_BOOT", f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); {boot}"
    )
    with pytest.raises(UserError, match=message):
        query(path, "SELECT 1")


def test_a_stray_module_in_the_current_folder_is_not_imported(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("duckdb", "json", "attattr_batch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('stray')")
    monkeypatch.chdir(tmp_path)
    assert query(path, "SELECT 42 AS n").rows == [(42,)]


def test_a_query_waits_for_a_writer(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    code = (
        "import duckdb, time\n"
        f"connection = duckdb.connect({str(store.path)!r})\n"
        "print('open', flush=True)\n"
        "time.sleep(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert query(store.path, "SELECT count(*) FROM runs").rows == [(0,)]


def test_waiting_for_a_writer_is_within_the_deadline(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    code = f"import duckdb; c = duckdb.connect({str(store.path)!r}); print('open', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreError, match="another process holds the database; waited 0.5 s"):
            query(store.path, "SELECT 1", timeout_s=0.5)
        writer.communicate()


# Run with every door shut but past the check of the statement's kind, which is not what protects.
ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "FROM 'https://example.com/x.csv'",
    "SELECT * FROM read_parquet('FOLDER/secret.parquet')",
    "SELECT * FROM read_json('FOLDER/secret.json')",
    "SELECT * FROM sniff_csv('FOLDER/secret.csv')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT getenv('HOME')",
    "COPY (SELECT 1) TO 'FOLDER/out.csv'",
    "COPY runs TO 'FOLDER/out.parquet'",
    "WITH x AS (COPY (SELECT 1) TO 'FOLDER/out.csv') SELECT * FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'FOLDER/out.csv'",
    "EXPORT DATABASE 'FOLDER/out'",
    "IMPORT DATABASE 'FOLDER'",
    "ATTACH 'FOLDER/out.duckdb'",
    "ATTACH 'FOLDER/theirs.duckdb' (READ_ONLY)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "INSTALL 'FOLDER/evil.duckdb_extension'",
    "LOAD 'FOLDER/evil.duckdb_extension'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "SET max_execution_time = 0",
    "SET GLOBAL python_enable_replacements = true",
    "SET allowed_directories = ['/']",
    "SET temp_directory = 'FOLDER'",
    "PRAGMA temp_directory='FOLDER'",
    "PRAGMA enable_profiling = 'json'",
    "SELECT * FROM python_secret",
    "CREATE TABLE t (a INTEGER)",
    "CREATE OR REPLACE VIEW runs AS SELECT 1",
    "DROP TABLE runs",
    "ALTER TABLE runs ADD COLUMN x INTEGER",
    "INSERT INTO meta VALUES ('a', 'b')",
    "UPDATE runs SET name = 'x'",
    "DELETE FROM runs",
    "TRUNCATE ledger",
    "COMMENT ON TABLE runs IS 'x'",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''FOLDER/out.csv''')",
    "SELECT * FROM which_secret('s3://x', 's3')",
]

RUN_ATTACKS = """
import json, sys
from pathlib import Path
import duckdb, pyarrow
from attattr_batch.store.reading.console_child import open_locked
connection = open_locked(Path(sys.argv[1]), 512, 60)
python_secret = pyarrow.table({"a": [1]})
outcomes = []
for sql in json.load(sys.stdin):
    try:
        outcomes.append(repr(connection.execute(sql).fetchall()))
    except duckdb.Error as error:
        outcomes.append(None)
print(json.dumps(outcomes))
"""


def test_no_door_is_open(path: Path, tmp_path: Path) -> None:
    secrets = {"secret.csv": "a,b\n1,2\n", "secret.json": "[1]", "evil.duckdb_extension": "x"}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
    duckdb.values([1]).write_parquet(str(tmp_path / "secret.parquet"))
    duckdb.connect(str(tmp_path / "theirs.duckdb")).close()
    before, files = path.read_bytes(), sorted(tmp_path.iterdir())
    attacks = [sql.replace("FOLDER", str(tmp_path)) for sql in ATTACKS]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ATTACKS, str(path)],
        input=json.dumps(attacks),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[Any] = json.loads(done.stdout)
    succeeded = {sql: outcome for sql, outcome in zip(ATTACKS, outcomes, strict=True) if outcome is not None}
    assert succeeded == {}
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


def test_the_attacks_would_work_on_an_open_door(path: Path, tmp_path: Path) -> None:
    """Guards the test above: without the lock these succeed."""
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute(
            "SELECT count(*) > 0 FROM read_csv('/etc/passwd', header = false)"
        ).fetchall()
        connection.execute(f"WITH x AS (COPY (SELECT 1) TO '{tmp_path}/out.csv') SELECT * FROM x").fetchall()
    assert (tmp_path / "out.csv").exists()


def test_an_answer_that_takes_seconds_comes_whole(tmp_path: Path) -> None:
    """After two seconds DuckDB, in a process without a script, draws a progress bar to stdout."""
    path = filled_store(tmp_path).path
    answer = query(path, "SELECT sum(range % 7) AS total FROM range(800000000)", timeout_s=120)
    assert answer.rows == [(2399999995,)]
