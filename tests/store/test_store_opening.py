"""Files that cannot be used: each refusal says what is wrong and what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from helpers.fabricate import commit, filled_store, new_store, register, registered_store, rows

from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.opening import log_of
from attattr_batch.store.database.tables import metadata

ROOT = Path(__file__).resolve().parents[2]


def refusal(path: Path, *, write: bool = False, create: bool = False, timeout_s: float = 0.2) -> str:
    store = Store(path, timeout_s=timeout_s, create=create)
    with pytest.raises(StoreError) as caught, store.write() if write else store.read():
        pass
    return str(caught.value)


@pytest.mark.parametrize("write", [False, True])
def test_a_missing_file(tmp_path: Path, write: bool) -> None:
    message = refusal(tmp_path / "no.duckdb", write=write)
    assert "there is no database yet" in message
    assert f"attattr run --db {tmp_path / 'no.duckdb'}" in message
    assert not list(tmp_path.iterdir())


def test_a_missing_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path / "no" / "x.duckdb", write=True, create=True)
    assert "folder of the database does not exist" in message


@pytest.mark.parametrize("write", [False, True])
def test_a_folder(tmp_path: Path, write: bool) -> None:
    assert "(a folder)" in refusal(tmp_path, write=write, create=True)


@pytest.mark.parametrize("content", [b"", b"hello", os.urandom(20_000)], ids=["empty", "text", "noise"])
@pytest.mark.parametrize("write", [False, True])
def test_garbage_is_refused_and_left_alone(tmp_path: Path, content: bytes, write: bool) -> None:
    path = tmp_path / "garbage.duckdb"
    path.write_bytes(content)
    assert "not a DuckDB database" in refusal(path, write=write, create=True)
    assert path.read_bytes() == content


def test_an_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    assert "not a DuckDB database" in refusal(path)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.3, 0.5])
def test_a_file_cut_short(tmp_path: Path, share: float) -> None:
    """Refused at the latest by the query that needs what is gone: DuckDB reads blocks when asked for."""
    store = filled_store(tmp_path)
    content = store.path.read_bytes()
    store.path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match="damaged") as caught, store.read() as connection:
        for table in metadata.tables:
            connection.exec_driver_sql(f"SELECT max(hash(t)) FROM {table} AS t").all()
    assert "attattr snapshot" in str(caught.value)


def test_a_damaged_header(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    content = bytearray(store.path.read_bytes())
    content[4096:4200] = content[8192:8300] = bytes(104)
    store.path.write_bytes(content)
    assert "damaged" in refusal(store.path)


@pytest.mark.parametrize("write", [False, True])
def test_another_programs_duckdb_file_is_left_alone(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "theirs.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE runs AS SELECT 1 AS a")
    before = path.read_bytes()
    message = refusal(path, write=write, create=True)
    assert "not one of attattr_batch" in message
    assert "left as it is" in message
    assert path.read_bytes() == before


def test_a_blank_duckdb_file_is_filled_by_a_writer_but_not_read(tmp_path: Path) -> None:
    path = tmp_path / "blank.duckdb"
    duckdb.connect(str(path)).close()
    assert "the database is empty" in refusal(path)
    Store(path, create=True).migrate()
    assert rows(Store(path), "SELECT count(*) FROM runs") == [(0,)]


def test_a_process_that_dies_while_it_makes_the_file_is_not_in_the_way_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB leaves an empty file then, which nobody can open."""
    store = Store(tmp_path / "new.duckdb", create=True)

    def die(path: str, **_: object) -> None:
        Path(path).touch()
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(duckdb, "connect", die)
        store.migrate()
    store.migrate()
    assert [path.name for path in tmp_path.iterdir()] == ["new.duckdb"]


def test_a_file_deleted_without_its_log_can_be_made_anew(tmp_path: Path) -> None:
    store = registered_store(tmp_path)
    commit(store, 1, [0])
    assert log_of(store.path).exists()
    store.path.unlink()
    store.migrate()
    register(store, 2, "second")
    assert rows(store, "SELECT name FROM runs") == [("second",)]


def test_a_log_of_another_file_is_said(tmp_path: Path) -> None:
    store = registered_store(tmp_path)
    commit(store, 1, [0])
    store.path.unlink()
    duckdb.connect(str(tmp_path / "other")).close()
    (tmp_path / "other").rename(store.path)
    for write in (False, True):
        said = refusal(store.path, write=write)
        assert "belongs to another file" in said and f"move {store.path}.wal away" in said


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the file of `new_store(tmp_path)` open for writing."""
    path = new_store(tmp_path).path
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.mark.parametrize("write", [False, True])
def test_a_held_file_names_the_holder(tmp_path: Path, holder: subprocess.Popen[str], write: bool) -> None:
    started = time.monotonic()
    message = refusal(tmp_path / "attattr.duckdb", write=write, timeout_s=0.3)
    assert 0.3 <= time.monotonic() - started < 20  # the usual time would be 30
    assert "another process holds the database; waited 0.3 s" in message
    assert f"PID {holder.pid}" in message


def test_a_held_file_is_waited_for(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    code = f"import os, signal, time; time.sleep(0.5); os.kill({holder.pid}, signal.SIGKILL)"
    with subprocess.Popen([sys.executable, "-c", code]):
        assert rows(Store(tmp_path / "attattr.duckdb", timeout_s=20), "SELECT count(*) FROM runs") == [(0,)]


def test_reading_inside_a_write_is_explained(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with store.write():
        message = refusal(store.path)
    assert "this program already has the database open" in message


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that an unprivileged user can enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="attattr-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(code: str) -> str:
    """Runs code after giving up root (a no-op for other users); returns what it prints."""
    program = (
        "import os, traceback\n"
        "from pathlib import Path\n"
        "from attattr_batch.errors import StoreError\n"
        "from attattr_batch.store.database.connection import Store\n"
        "Store('/tmp/warm-up-that-does-not-exist')\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try:\n"
        f"    {code}\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_read_only_folder_refuses_a_new_file(shared_folder: Path) -> None:
    shared_folder.chmod(0o555)
    message = as_nobody(f"Store({str(shared_folder / 'x.duckdb')!r}, create=True).migrate()")
    assert "no permission" in message
    assert "--db" in message


def test_a_read_only_folder_refuses_writing_but_not_reading(shared_folder: Path) -> None:
    store = filled_store(shared_folder)
    store.path.chmod(0o666)
    shared_folder.chmod(0o555)
    write = (
        f"s = Store({str(store.path)!r})\n    with s.write() as c: c.exec_driver_sql('DELETE FROM ledger')"
    )
    assert "no permission" in as_nobody(write)
    read = (
        f"s = Store({str(store.path)!r})\n"
        "    with s.read() as c: print(c.exec_driver_sql('SELECT count(*) FROM ledger').scalar_one())"
    )
    assert as_nobody(read) == "8\n"


def test_a_file_of_somebody_else(shared_folder: Path) -> None:
    store = filled_store(shared_folder)
    store.path.chmod(0o000)
    assert "no permission" in as_nobody(f"Store({str(store.path)!r}).migrate()")
