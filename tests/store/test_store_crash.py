"""kill -9 at any moment: what was acknowledged stays, what was not is either whole or absent."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from helpers.fabricate import INTEGRITY, commit, filled_store, new_store, register, rows

from attattr_batch.store.reading.export import export_run
from attattr_batch.store.writing.passes import seal_pass

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
N_EXAMPLES = 48

WORKER = """
import sys
from helpers.fabricate import commit
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import pending_ids
store = Store(sys.argv[1])
with store.read() as connection:
    pending = pending_ids(connection, 1, range(48))
print("ready", flush=True)
for start in range(0, len(pending), 3):
    commit(store, 1, pending[start : start + 3])
    print(*pending[start : start + 3], flush=True)
"""


def work_until_killed(path: Path, commits: int | None, moment: float = 0.0) -> list[int]:
    """Runs a worker, killed in the commit after so many; returns what it acknowledged.

    `moment` is when in that commit, as a share of the time that the one before it took.
    """
    command = [sys.executable, "-c", WORKER, str(path)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        lines, took_s = "", 0.0
        for _ in range(commits or 0):
            started = time.monotonic()
            lines += worker.stdout.readline()
            took_s = time.monotonic() - started
        if commits is not None:
            time.sleep(moment * took_s)
            worker.kill()
        lines += worker.stdout.read()
    assert worker.returncode == (0 if commits is None else -9)
    return [int(word) for word in lines.split()]


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    chance = random.Random(0)
    store = new_store(tmp_path)
    register(store, N_EXAMPLES)
    acknowledged: set[int] = set()
    for _ in range(3):
        acknowledged.update(work_until_killed(store.path, chance.randint(1, 3), chance.random()))
        committed = {row[0] for row in rows(store, "SELECT example_id FROM ledger")}
        assert acknowledged <= committed
        assert rows(store, f"SELECT ok, committed % 3 FROM {INTEGRITY}") == [(True, 0)]
    assert len(acknowledged) < N_EXAMPLES
    acknowledged.update(work_until_killed(store.path, None))
    seal_pass(store, 1)
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(N_EXAMPLES, True)]

    (tmp_path / "undisturbed").mkdir()
    undisturbed = new_store(tmp_path / "undisturbed")
    register(undisturbed, N_EXAMPLES)
    commit(undisturbed, 1, range(N_EXAMPLES))
    seal_pass(undisturbed, 1)
    exports = [export_run(one, "first", one.path.parent / "export") for one in (store, undisturbed)]
    for left, right in zip(*exports, strict=True):
        assert left.name == right.name
        if left.name != "run.json":  # holds the times
            assert left.read_bytes() == right.read_bytes(), left.name


def test_a_log_cut_in_the_middle_of_a_commit_is_ignored(tmp_path: Path) -> None:
    """What a power cut leaves: the tail of the log is not whole."""
    store = filled_store(tmp_path)
    for name in ("second", "third"):
        register(store, 4, name)
    log = store.path.with_name("attattr.duckdb.wal")
    log.write_bytes(log.read_bytes()[:-100])
    assert rows(store, "SELECT name FROM runs ORDER BY run_id") == [("first",), ("second",)]
    assert register(store, 4, "third") == (3, 3)
