"""The executor for this process's own GPU: the next chunk is computed while one is committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.fabricate import contents, new_store, register, rows
from helpers.toy_work import FACTS, ToyWork, chunks

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor, LocalGpuExecutor
from attattr_batch.store.database.connection import Store

N, PATIENCE_S = 24, 30.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path)
    register(store, N)
    return store


@dataclass(frozen=True)
class Watched(ToyWork):
    """Toy work that says when it begins with a second chunk, how often it starts, and what runs at once."""

    starts: list[int] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)
    at_once: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def start(self) -> Watched:
        self.starts.append(1)
        return self

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        self.running.append(chunk.example_ids[0])
        self.at_once.append(len(self.running))
        if len(self.at_once) > 1:
            self.second.set()
        tables = super().compute(chunk)
        self.running.remove(chunk.example_ids[0])
        return tables


def test_the_next_chunk_is_computed_while_one_is_committed(store: Store, tmp_path: Path) -> None:
    work = Watched(seconds=0.02)

    def report(progress: Progress) -> None:
        if progress.newly_committed:
            assert work.second.wait(PATIENCE_S), "the GPU waits for the store"

    with closing(LocalGpuExecutor(work)) as executor:
        progress = Driver(store, 1, executor, report).execute(chunks(N, 4), Progress(N, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (N, 0)
    assert max(work.at_once) == 1, "one at a time has the GPU"
    assert work.starts == [1], "the model is loaded once"
    (tmp_path / "other").mkdir()
    other = new_store(tmp_path / "other")
    register(other, N)
    Driver(other, 1, LocalExecutor(ToyWork()), lambda progress: None).execute(chunks(N, 4), Progress(N, 0, 0))
    ours, theirs = contents(store), contents(other)
    assert [name for name in FACTS if ours[name] != theirs[name] or not ours[name]] == []


def test_one_bad_example_costs_one_example(store: Store) -> None:
    work = ToyWork(raising=frozenset({5}), greedy=frozenset({11}))
    with closing(LocalGpuExecutor(work)) as executor:
        driver = Driver(store, 1, executor, lambda progress: None)
        progress = driver.execute(chunks(N, 8), Progress(N, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (N - 1, 1)
    assert rows(store, "SELECT example_id, error, attempts FROM quarantine") == [(5, "ArithmeticError", 2)]


def test_a_lost_gpu_ends_the_command_and_keeps_what_is_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attattr_batch.runtime.executors.outcomes._gpu_lost", lambda: True)
    with closing(LocalGpuExecutor(ToyWork(raising=frozenset({9})))) as executor:
        driver = Driver(store, 1, executor, lambda progress: None)
        with pytest.raises(UserError, match=r"no longer use its GPU\n.*cannot compute \[9\], at examples 8"):
            driver.execute(chunks(N, 4), Progress(N, 0, 0))
    ((committed,),) = rows(store, "SELECT count(*) FROM ledger")
    assert committed in (4, 8)  # of two chunks that ended together, the good one may be lost
    assert rows(store, "SELECT count(*) FROM quarantine") == [(0,)]


def test_a_model_that_cannot_be_loaded_ends_it_before_anything_is_computed(store: Store) -> None:
    with closing(LocalGpuExecutor(ToyWork(start_error="no such model"))) as executor:
        driver = Driver(store, 1, executor, lambda progress: None)
        with pytest.raises(UserError, match="no such model"):
            driver.execute(chunks(N, 4), Progress(N, 0, 0))


def test_an_interrupt_does_not_wait_for_the_chunk_that_is_computed() -> None:
    """A computation that hangs must not take the terminal with it."""
    hanging, begun = threading.Event(), threading.Event()

    class Hanging(ToyWork):
        def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
            begun.set()
            hanging.wait(PATIENCE_S)
            return super().compute(chunk)

    executor = LocalGpuExecutor(Hanging())
    rooms = []
    for chunk in chunks(4, 2):
        executor.submit(chunk)
        rooms.append(executor.room())
    assert rooms == [True, False], "the rows of one can be made while the other has the GPU"
    assert begun.wait(PATIENCE_S)
    assert executor.wait(0.01) == []
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < PATIENCE_S / 2
    hanging.set()
