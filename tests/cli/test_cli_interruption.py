"""Interrupts at any function call: what is committed stays, and the same command ends as if undisturbed.

What ends a run from outside (signals, full disks, a second driver) is tried in tests/faults.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import duckdb
import pytest
from helpers.calling import Cli
from helpers.fabricate import INTEGRITY
from helpers.toy import rows_of, toy_model, toy_rows, write_sst2

from attattr_batch.cli.main import run_command_line
from attattr_batch.store.database.connection import Store, raw

N_DEV = 160
SMALL_BATCHES = ["--batch-tokens", "128", "--name", "toy"]  # a dozen chunks


class Interrupter:
    """Interrupts this thread at its n-th function call or return: the same moment on every machine.

    While `logging` holds its lock the interrupt waits. That lock would never be freed, which does not matter
    to a command, because it ends, but other threads of these tests would wait for it for ever.
    """

    def __init__(self, after: int):
        self.events = 0
        self._left = after

    def __enter__(self) -> Interrupter:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        self.events += 1
        self._left -= self._left != 1 or not logging._lock._is_owned()  # type: ignore[attr-defined]
        if self._left == 0:
            self._left = -1
            raise KeyboardInterrupt


class Undisturbed(NamedTuple):
    """A run that nothing stopped: its export, and its number of function calls and returns."""

    export: Path
    events: int


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = toy_model(tmp_path_factory.mktemp("models") / "toy")
    data = write_sst2(tmp_path_factory.mktemp("glue"), dev=toy_rows(N_DEV, seed=1))
    return ["run", "--task", "sst2", "--model", str(model), "--data-dir", str(data), *SMALL_BATCHES]


@pytest.fixture(scope="module")
def empty(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs: making one takes most of a second."""
    store = Store(tmp_path_factory.mktemp("empty") / "store.duckdb", create=True)
    store.migrate()
    return store.path


@pytest.fixture(scope="module")
def undisturbed(arguments: list[str], empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    first, db = (str(shutil.copy(empty, folder / name)) for name in ("first.duckdb", "store.duckdb"))
    # Importing takes as many calls as running: they are over before calls are counted.
    assert run_command_line([*arguments, "--db", first, "--quiet"]) == 0
    with Interrupter(after=0) as never:
        assert run_command_line([*arguments, "--db", db, "--quiet"]) == 0
    assert run_command_line(["export", "toy", "--to", str(folder / "export"), "--db", db]) == 0
    return Undisturbed(folder / "export", never.events)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], empty: Path, tmp_path: Path) -> Cli:
    return Cli(capsys, Path(shutil.copy(empty, tmp_path / "store.duckdb")))


def committed(db: Path) -> int:
    """Examples in the ledger; asserts that they have all of their rows."""
    assert {ok for (ok,) in rows_of(db, f"SELECT ok FROM {INTEGRITY}")} <= {True}
    ((count,),) = rows_of(db, "SELECT count(*) FROM ledger")
    return int(count)


def assert_completes(cli: Cli, arguments: list[str], undisturbed: Undisturbed) -> None:
    """The same command does the rest and no more, and the result is the undisturbed one, byte for byte."""
    before = committed(cli.db)
    answer = cli(*arguments, "--format", "json")
    assert answer.code == 0, answer.err
    (summary,) = json.loads(answer.out)
    assert summary["newly_committed"] == N_DEV - before
    assert cli("verify").code == 0
    export = cli.db.parent / "export"
    assert cli("export", "toy", "--to", export).code == 0
    names = {path.name for path in undisturbed.export.iterdir()}
    assert {path.name for path in export.iterdir()} == names
    for name in names - {"run.json"}:  # which holds times
        assert (export / name).read_bytes() == (undisturbed.export / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_many_moments(cli: Cli, arguments: list[str], undisturbed: Undisturbed) -> None:
    """The interrupt falls into planning, registering, the model's computation, a commit, closing the file."""
    chance, codes, counts = random.Random(7), [0], [0]
    while len(codes) < 12 and counts[-1] < N_DEV:
        with Interrupter(chance.randint(1, undisturbed.events // 2)):
            answer = cli(*arguments)
        assert answer.code in (0, 130), answer.err
        codes.append(answer.code)
        counts.append(committed(cli.db))
    assert codes.count(130) >= 3
    assert counts == sorted(counts)
    assert len(set(counts)) >= 3
    assert_completes(cli, arguments, undisturbed)


class _Interrupted:
    """Rows during whose reading Ctrl-C is pressed."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_while_rows_are_handed_over(empty: Path) -> None:
    """DuckDB makes an error of its own of it too."""
    with pytest.raises(KeyboardInterrupt) as caught, Store(empty).write() as connection:
        raw(connection).register("rows", _Interrupted())
    assert isinstance(caught.value.__cause__, duckdb.InvalidInputException)


def test_an_interrupt_during_a_statement(empty: Path) -> None:
    """DuckDB looks for signals now and then, and makes a RuntimeError of them."""
    statement, seen = "SELECT count(*) FROM range(20000000) WHERE range % 7 = 3", set()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for delay_s in (0.0, 0.001, 0.002, 0.003, 0.004, 0.005):
            timer = threading.Timer(delay_s, signal.raise_signal, [signal.SIGINT])
            with pytest.raises(KeyboardInterrupt) as caught, Store(empty).read() as connection:
                timer.start()
                connection.exec_driver_sql(statement).all()
                timer.join()  # an interrupt after the statement must not end the tests
            seen.add(type(caught.value.__cause__))
            with Store(empty).write():
                pass  # the file was closed
    finally:
        signal.signal(signal.SIGINT, before)
    assert RuntimeError in seen
