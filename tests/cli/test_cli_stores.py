"""Databases that cannot be used: a message that says why, exit code 2, and the file stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pytest
from helpers.calling import Cli, contains


@pytest.fixture
def anywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line over a store that is not there yet."""
    return Cli(capsys, tmp_path / "new.duckdb")


COMMANDS = (
    "status",
    "runs",
    "verify",
    "rm first -y",
    "export first --to out",
    "snapshot copy.duckdb",
    "jobs run splits",
    "migrate",
    "report",
)


@pytest.mark.parametrize("command", [*COMMANDS, "sql 'select 1'"])
def test_no_store_yet(anywhere: Cli, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = anywhere.refuses(*command.split(maxsplit=1 if "'" in command else -1))
    assert contains(message, "there is no database yet", f"`attattr run --db {anywhere.db}` makes one")
    assert not list(tmp_path.iterdir())


def refuses_store(cli: Cli, model: Path, data: Path) -> str:
    """What `run` says; `status` must say the same, and neither may touch the file."""
    before = cli.db.read_bytes() if cli.db.is_file() else None
    message = cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data)
    assert cli.refuses("status") == message
    assert before is None or cli.db.read_bytes() == before
    return message


def test_a_text_file(anywhere: Cli, model: Path, data: Path) -> None:
    anywhere.db.write_text("not a database\n" * 1000)
    assert contains(refuses_store(anywhere, model, data), "not a DuckDB database", str(anywhere.db), "--db")


def test_a_data_file(anywhere: Cli, model: Path, data: Path) -> None:
    """DuckDB opens it in memory, where a run would be lost."""
    anywhere.db = anywhere.db.with_name("rows.csv")
    anywhere.db.write_text("a,b\n1,2\n3,4\n")
    assert contains(refuses_store(anywhere, model, data), "not a DuckDB database", "rows.csv", "--db")


def test_a_foreign_database(anywhere: Cli, model: Path, data: Path) -> None:
    with duckdb.connect(anywhere.db) as connection:
        connection.execute("CREATE TABLE runs (mine INTEGER)")
    message = refuses_store(anywhere, model, data)
    assert contains(message, "not one of attattr_batch", str(anywhere.db), "this file is left as it is")


def test_a_store_of_a_newer_version(anywhere: Cli, filled: Path, model: Path, data: Path) -> None:
    shutil.copy(filled, anywhere.db)
    with duckdb.connect(anywhere.db) as connection:
        connection.execute("UPDATE attattr_schema SET version_num = '9999'")
    message = refuses_store(anywhere, model, data)
    assert contains(message, "a newer version of attattr_batch", "schema 9999", "upgrade attattr_batch")


def test_a_folder_in_place_of_the_store(anywhere: Cli, model: Path, data: Path) -> None:
    anywhere.db.mkdir()
    assert contains(refuses_store(anywhere, model, data), "the database must be a file", "give a file's path")


def test_no_folder_for_the_store(anywhere: Cli, model: Path, data: Path) -> None:
    anywhere.db = anywhere.db.parent / "nowhere" / "x.duckdb"
    message = anywhere.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data)
    assert contains(message, "the folder of the database does not exist", "make the folder first")


def test_a_folder_without_permission(anywhere: Cli, model: Path, data: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="attattr-test-"))
    try:
        for name, source in (("model", model), ("data", data)):
            shutil.copytree(source, folder / name)
        (folder / "out").mkdir()
        anywhere.db = folder / "out" / "x.duckdb"
        subprocess.run(["chmod", "-R", "a+rX,a-w", folder], check=True)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            run = ["run", "--task", "sst2", "--model", folder / "model", "--data-dir", folder / "data"]
            message = anywhere.refuses(*run)
        finally:
            os.seteuid(before)
        assert contains(
            message, "no permission to use the database there", "who owns the file and its folder"
        )
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_store_held_by_another_process(
    cli: Cli, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTATTR_LOCK_TIMEOUT", "0.2")
    command = [sys.executable, "-c", HOLDER, str(cli.db)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for command in (
            ["run", "--task", "sst2", "--model", str(model), "--data-dir", str(data)],
            ["status"],
        ):
            message = cli.refuses(*command)
            assert contains(message, "another process holds the database; waited 0.2 s", f"PID {holder.pid}")
        holder.communicate()
    monkeypatch.setenv("ATTATTR_LOCK_TIMEOUT", "soon")
    assert contains(cli.refuses("status"), "ATTATTR_LOCK_TIMEOUT=soon", "allowed: seconds, 0 or more")


def test_places_that_hold_other_things(cli: Cli, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.txt").write_text("mine")
    assert contains(
        cli.refuses("export", "first", "--to", used), "the folder holds other things", "thesis.txt"
    )
    message = cli.refuses("snapshot", used / "thesis.txt")
    assert contains(message, "thesis.txt")
    assert (used / "thesis.txt").read_text() == "mine"
    assert contains(cli.refuses("export", "second", "--to", tmp_path / "x"), "no such run", "first (1)")
