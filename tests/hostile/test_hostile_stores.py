"""A store that somebody else made reaches no file of its reader's, whichever way it is looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb
import pytest
from helpers.fabricate import filled_store, rows

from attattr_batch.analysis.audits import run_audits
from attattr_batch.cli.main import run_command_line
from attattr_batch.errors import StoreError
from attattr_batch.report.html import write_report
from attattr_batch.results import Results
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.migrate import view_files
from attattr_batch.store.database.opening import log_of, open_duckdb
from attattr_batch.store.reading import snapshot as copying
from attattr_batch.store.reading.console import query
from attattr_batch.store.reading.console_child import open_locked
from attattr_batch.store.reading.export import export_run
from attattr_batch.store.reading.snapshot import snapshot
from attattr_batch.store.writing.passes import seal_pass

MARKER = "SECRET-MARKER"
SHUT = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text(MARKER)
    return path


@pytest.fixture
def hostile(tmp_path: Path, secret: Path) -> Store:
    """A store with a view of ours that tells a file for a run's name, and views that we do not know."""
    (tmp_path / "theirs").mkdir()
    store = filled_store(tmp_path / "theirs")
    seal_pass(store, 1)
    (summary,) = (view for view in view_files() if view.name == "run_summary")
    told = f"(SELECT content FROM read_text('{secret}'))"
    tampered(
        store.path,
        f"CREATE OR REPLACE VIEW run_summary AS SELECT * REPLACE ({told} AS name) FROM ({summary.query})",
        f"CREATE VIEW theirs AS SELECT {told} AS content",
        "CREATE VIEW my_own AS SELECT name FROM runs",
    )
    return store


def tampered(path: Path, *statements: str) -> None:
    """As somebody does who has the file, without this package: another file comes to stand there."""
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    if log_of(path).exists():
        log_of(path).replace(log_of(copy))
    with duckdb.connect(str(copy)) as connection:
        for statement in statements:
            connection.execute(statement)
    os.replace(copy, path)


def test_views_of_our_names_are_passed_over_and_views_of_others_reach_nothing(
    hostile: Store, tmp_path: Path
) -> None:
    results = Results(hostile.path)
    assert results.runs()["name"].to_pylist() == ["first"]
    assert results.sql("FROM my_own").to_pylist() == [{"name": "first"}], "harmless views stay"
    with pytest.raises(StoreError, match="reaches for what is not in the database"):
        results.sql("FROM theirs")
    with pytest.raises(StoreError, match="reaches for what is not in the database"):
        results.table("theirs")
    assert MARKER not in write_report(hostile, tmp_path / "report.html").read_text()
    assert all(audit.passed for audit in run_audits(hostile)[0])
    export_run(hostile, "first", tmp_path / "export")
    assert not any(MARKER.encode() in path.read_bytes() for path in (tmp_path / "export").iterdir())


@pytest.mark.parametrize(
    "command", ["status", "verify", "report", "plot", "jobs", "sql", "snapshot", "export"]
)
def test_no_command_tells_what_is_in_a_file(
    hostile: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    rest = {
        "report": ["--to", str(tmp_path / "out")],
        "plot": ["heads", "--to", str(tmp_path / "out.svg")],
        "jobs": ["run", "splits"],
        "sql": ["FROM run_summary"],
        "snapshot": [str(tmp_path / "out")],
        "export": ["first", "--to", str(tmp_path / "out")],
    }.get(command, [])
    code = run_command_line([command, *rest, "--db", str(hostile.path)])
    said = capsys.readouterr()
    assert code in (0, 2), said.err  # and not a fault of ours
    assert MARKER not in said.out + said.err
    made = [tmp_path / "out", *tmp_path.glob("out*/*"), tmp_path / "out.svg"]
    assert not any(MARKER.encode() in path.read_bytes() for path in made if path.is_file())


def test_a_job_that_is_a_view_over_a_file_is_refused(hostile: Store, secret: Path) -> None:
    tampered(hostile.path, f"CREATE VIEW splits AS SELECT 1 AS run_id, * FROM read_text('{secret}')")
    with pytest.raises(StoreError, match="reaches for what is not in the database"):
        run_audits(hostile)


def test_who_reads_does_not_write_and_who_writes_mends(hostile: Store) -> None:
    before = hostile.path.read_bytes()
    for _ in range(2):
        assert Results(hostile.path).runs()["name"].to_pylist() == ["first"]
        assert query(hostile.path, "SELECT name FROM run_summary").rows == [("first",)]
    assert hostile.path.read_bytes() == before
    hostile.migrate()
    with duckdb.connect(str(hostile.path), read_only=True) as other_program:
        assert other_program.execute("SELECT name FROM run_summary").fetchall() == [("first",)]


def test_a_view_in_the_place_of_a_table_is_refused(hostile: Store, secret: Path) -> None:
    tampered(
        hostile.path,
        "DROP VIEW my_own",
        "ALTER TABLE meta RENAME TO meant",
        f"CREATE VIEW META AS FROM meant UNION ALL SELECT 'a', content FROM read_text('{secret}')",
    )
    for opened in (hostile.read, hostile.write):
        with pytest.raises(StoreError), opened():
            pass
    (hostile.path.parent / "other").mkdir()
    other = filled_store(hostile.path.parent / "other")
    tampered(other.path, "ALTER TABLE quarantine RENAME TO failed", "CREATE VIEW quarantine AS FROM failed")
    for opened in (other.read, other.write):
        with pytest.raises(StoreError, match=r"views in their place\n.*quarantine"), opened():
            pass


def test_a_table_in_the_place_of_a_view_or_none_at_all_is_not_ours(tmp_path: Path) -> None:
    for number, statements in enumerate(
        (("DROP VIEW progress", "CREATE TABLE progress AS SELECT 1 AS a"), ("DROP TABLE quarantine CASCADE",))
    ):
        (tmp_path / str(number)).mkdir()
        store = filled_store(tmp_path / str(number))
        tampered(store.path, *statements)
        with pytest.raises(StoreError, match=r"cannot be written|lacks tables"), store.write():
            pass


def test_another_file_at_the_same_path_is_looked_at_anew(hostile: Store, tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    assert Results(store.path).runs().num_rows == 1
    store.checkpoint()
    hostile.checkpoint()
    os.replace(hostile.path, store.path)
    assert Results(store.path).runs()["name"].to_pylist() == ["first"]


def test_the_same_file_overwritten_by_an_earlier_release_is_read_with_this_ones_views(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    store.checkpoint()
    older = tmp_path / "older.duckdb"
    shutil.copy(store.path, older)
    tampered(
        older,
        "UPDATE meta SET value = 'earlier' WHERE key = 'views_and_comments'",
        "CREATE OR REPLACE VIEW run_summary AS SELECT 'nobody' AS name",
    )
    assert rows(store, "SELECT name FROM run_summary") == [("first",)]
    store.path.write_bytes(older.read_bytes())
    assert rows(store, "SELECT name FROM run_summary") == [("first",)]


def settings(duck: duckdb.DuckDBPyConnection) -> dict[str, object]:
    return {name: duck.execute(f"SELECT current_setting('{name}')").fetchall()[0][0] for name in SHUT}


def test_every_opening_is_shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To files and networks, to Python's variables, and to extensions, which would load by themselves."""
    store = filled_store(tmp_path)
    seen: dict[str, dict[str, object]] = {}
    with store.read() as connection:
        seen["read"] = settings(raw(connection))
    with store.write() as connection:
        seen["write"] = settings(raw(connection))
    with store.read(folder=tmp_path / "there") as connection:
        seen["read, with a folder"] = settings(raw(connection))
    duck = open_duckdb(store.path, read_only=False, timeout_s=1.0)
    seen["alone"] = settings(duck)
    duck.close()
    duck = open_locked(store.path, 256, 60.0)
    seen["console"] = settings(duck)
    duck.close()
    copy = copying._copy

    def looked_at(source: duckdb.DuckDBPyConnection, path: Path) -> None:
        seen["snapshot"] = settings(source)
        copy(source, path)

    monkeypatch.setattr(copying, "_copy", looked_at)
    snapshot(store, tmp_path / "copy.duckdb")
    assert len(seen) == 6
    assert all(found == SHUT for found in seen.values()), seen


@pytest.mark.parametrize(
    "sql", ["FROM read_text('https://127.0.0.1:9/x')", "FROM st_read('x')", "LOAD httpfs"]
)
def test_no_extension_is_loaded_by_itself(tmp_path: Path, sql: str) -> None:
    functions = "SELECT count(*) FROM duckdb_functions()"
    duck = open_duckdb(filled_store(tmp_path).path, read_only=True, timeout_s=1.0)
    before = duck.execute(functions).fetchall()
    with pytest.raises(duckdb.Error):
        duck.execute(sql)
    assert duck.execute(functions).fetchall() == before
    duck.close()


def test_an_export_may_write_its_folder_and_nothing_else(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with filled_store(tmp_path).read(folder=there) as connection:
        duck = raw(connection)
        duck.execute(f"COPY (SELECT 1 AS a) TO '{there}/a.csv'")
        for path in (tmp_path / "a.csv", there / ".." / "a.csv"):
            with pytest.raises(duckdb.PermissionException):
                duck.execute(f"COPY (SELECT 1 AS a) TO '{path}'")
    assert (there / "a.csv").exists()
    assert not (tmp_path / "a.csv").exists()
