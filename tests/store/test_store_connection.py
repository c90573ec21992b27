from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.fabricate import INTEGRITY, commit, filled_store, new_store, register, rows
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from attattr_batch.errors import StoreError
from attattr_batch.store.database import turns
from attattr_batch.store.database.connection import Store

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}


def test_a_write_is_one_transaction(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with store.write() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))
    with pytest.raises(RuntimeError, match="changed my mind"), store.write() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('b', '2')"))
        raise RuntimeError("changed my mind")
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('c', '3')"))
        connection.execute(text("INSERT INTO meta VALUES ('a', '4')"))
    assert rows(store, "SELECT key FROM meta WHERE length(key) = 1") == [("a",)]


def test_the_file_is_released_between_uses(tmp_path: Path) -> None:
    """Another process can write while ours has a Store and has used it."""
    store = filled_store(tmp_path)
    assert rows(store, "SELECT count(*) FROM ledger") == [(8,)]
    code = f"import duckdb; duckdb.connect({str(store.path)!r}).execute('DELETE FROM ledger')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert rows(store, "SELECT count(*) FROM ledger") == [(0,)]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(Exception, match="read-only"), store.read() as connection:
        connection.execute(text("DELETE FROM meta"))


def test_closing_leaves_the_log_to_the_next_opener(tmp_path: Path) -> None:
    """No checkpoint at close: it would cost a second on a large file, after every chunk."""
    store = new_store(tmp_path)
    _, pass_id = register(store)
    before = store.path.stat().st_mtime_ns
    commit(store, pass_id, [0, 1])
    assert store.path.stat().st_mtime_ns == before
    assert store.path.with_name("attattr.duckdb.wal").stat().st_size > 0
    assert rows(store, "SELECT count(*) FROM ledger") == [(2,)]
    store.checkpoint()
    assert not store.path.with_name("attattr.duckdb.wal").exists()
    assert rows(store, "SELECT count(*) FROM ledger") == [(2,)]


def test_a_reader_in_another_thread_waits_for_the_writer(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    seen: list[int] = []

    def count() -> None:
        seen.append(rows(store, "SELECT count(*) FROM meta WHERE key = 'a'")[0][0])

    with store.write() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))
        reader = threading.Thread(target=count)
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
    reader.join(5)
    assert seen == [1]


WRITER = """
import select, sys
from pathlib import Path
from helpers.fabricate import commit, register
from attattr_batch.store.database.connection import Store
store = Store(sys.argv[1], timeout_s=60)
_, pass_id = register(store, 3000)
for start in range(0, 3000, 3):
    commit(store, pass_id, range(start, start + 3))
    if select.select([sys.stdin], [], [], 0)[0]:  # the reader has seen enough
        break
print(start + 3)
"""


def test_readers_see_whole_chunks_while_another_process_writes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    seen: list[tuple[int, bool]] = []
    command = [sys.executable, "-c", WRITER, str(store.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True) as writer:
        while len({committed for committed, _ in seen}) < 4 and writer.poll() is None:
            seen += rows(store, f"SELECT committed, ok FROM {INTEGRITY}")
            time.sleep(0.05)
        written, _ = writer.communicate("enough\n")
    assert all(ok for _, ok in seen)
    counts = [committed for committed, _ in seen]
    assert all(committed % 3 == 0 for committed in counts)
    assert counts == sorted(counts)
    assert len(set(counts)) == 4, "the reader never got a turn"
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(int(written), True)]


READER = """
import sys, time
from attattr_batch.store.database.connection import Store
store = Store(sys.argv[1], timeout_s=60)
print("ready", flush=True)
while True:
    with store.read():
        time.sleep(0.3)
"""


def test_a_writer_gets_its_turn_among_readers_who_never_leave_the_file_alone(tmp_path: Path) -> None:
    store = Store(new_store(tmp_path).path, timeout_s=60)
    command = [sys.executable, "-c", READER, str(store.path)]
    readers = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) for _ in range(5)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for number in range(5):  # without their giving way it gets none
            with store.write() as connection:
                connection.execute(text(f"INSERT INTO meta VALUES ('{number}', '1')"))
        assert [one.poll() for one in readers] == [None] * 5
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    assert [path.name for path in tmp_path.iterdir() if "waiting" in path.name] == []


def test_readers_give_way_for_a_moment_only_and_not_to_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    (tmp_path / f".{store.path.name}.waiting").touch()  # left by a writer that was killed
    pauses: list[None] = []
    pause = turns.pause
    monkeypatch.setattr(turns, "pause", lambda: pauses.append(pause()))
    assert rows(store, "SELECT count(*) FROM ledger") == [(0,)]
    assert pauses == []
    monkeypatch.setattr(turns, "GIVES_WAY_S", 0.5)
    sign = turns.Sign(store.path)
    sign.show()
    started = time.monotonic()
    assert rows(store, "SELECT count(*) FROM ledger") == [(0,)]
    assert 0.5 <= time.monotonic() - started < 20  # and not until the store's own 30 s are over
    assert pauses
    sign.remove()
    assert not list(tmp_path.glob(".*"))


FILLER = """
import resource, sys
from pathlib import Path
from helpers.fabricate import commit, register
from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store
store = Store(sys.argv[1])
_, pass_id = register(store, 200)
log = store.path.with_name(store.path.name + ".wal")
resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 100_000, resource.RLIM_INFINITY))
try:
    for start in range(0, 200, 10):
        commit(store, pass_id, range(start, start + 10))
        print(start)
except StoreError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the disk."""
    store = new_store(tmp_path)
    command = [sys.executable, "-c", FILLER, str(store.path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr
    assert "MiB free there" in done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged
    committed = [row[0] for row in rows(store, "SELECT example_id FROM ledger ORDER BY 1")]
    assert committed == [start + offset for start in acknowledged for offset in range(10)]
    assert rows(store, f"SELECT ok FROM {INTEGRITY}") == [(True,)]
    for start in range(0, 200, 10):
        commit(store, 1, range(start, start + 10))
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(200, True)]


def test_a_broken_statement_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(Exception, match="no_such_table") as caught, store.read() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))
    assert not isinstance(caught.value, StoreError)


def test_a_store_is_made_only_on_request(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.duckdb")
    with pytest.raises(StoreError, match="no database yet"), store.write():
        pass
    with pytest.raises(StoreError, match="no database yet"):
        store.checkpoint()
    assert not list(tmp_path.iterdir())


def test_a_thread_that_opens_the_file_as_well_does_not_open_it_to_other_processes(tmp_path: Path) -> None:
    """A process that closes a file by whatever means gives up its locks on it, those of other threads too."""
    store = filled_store(tmp_path)
    code = f"import duckdb; duckdb.connect({str(store.path)!r}).execute('DELETE FROM ledger')"
    for opened in (store.read, store.write):
        with opened():
            try:
                with Store(store.path, timeout_s=0.1).read():
                    pass
            except StoreError:  # while we write
                pass
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert "Could not set lock on file" in done.stderr
    assert rows(store, "SELECT count(*) FROM ledger") == [(8,)]
