"""The driver: every example committed exactly once or quarantined with its reason, whatever happens."""

import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.fabricate import commit, contents, new_store, register, rows
from helpers.toy_work import ToyWork, chunks

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.runtime.driver import ATTEMPTS, FAILED_ALIKE, Driver, Progress
from attattr_batch.runtime.executors import ChunkOutcome, Executor, Lost
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.outcomes import run_chunk
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import seal_pass

N = 16


class LossyExecutor:
    """Like the local one, but an example in `losing` takes its worker down as often as the number says."""

    def __init__(self, work: ToyWork, losing: dict[int, int]):
        self._inner = LocalExecutor(work)
        self._losing = dict(losing)
        self._lost: list[ChunkOutcome] = []

    def room(self) -> bool:
        return self._inner.room()

    def submit(self, chunk: Chunk) -> None:
        fatal = [one for one in chunk.example_ids if self._losing.get(one, 0) > 0]
        if fatal:
            self._losing[fatal[0]] -= 1
            self._lost.append(Lost(chunk, "the worker died", "w"))
        else:
            self._inner.submit(chunk)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        lost, self._lost = self._lost, []
        return [*lost, *self._inner.wait(timeout_s)]

    def close(self) -> None:
        self._inner.close()


class Workers:
    """Some workers that all finish at once; `committed` counts the ledger as each chunk is handed out."""

    def __init__(self, workers: int, store: Store):
        self._workers, self._store = workers, store
        self._worker = ToyWork().start()
        self._busy: list[Chunk] = []
        self.committed: list[int] = []

    def room(self) -> bool:
        return len(self._busy) < self._workers

    def submit(self, chunk: Chunk) -> None:
        self._busy.append(chunk)
        self.committed.append(rows(self._store, "SELECT count(*) FROM ledger")[0][0])

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        busy, self._busy = self._busy, []
        return [run_chunk(self._worker, chunk, "w") for chunk in busy]

    def close(self) -> None:
        self._busy = []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a run of `N` examples, of which nothing is computed."""
    store = new_store(tmp_path)
    register(store, N)
    return store


def execute(store: Store, executor: Executor, size: int = 8) -> Progress:
    return Driver(store, 1, executor, lambda progress: None).execute(chunks(N, size), Progress(N, 0, 0))


def facts_only(store: Store) -> dict[str, list[tuple[object, ...]]]:
    bookkeeping = {"ledger", "quarantine", "passes", "runs", "meta"}
    return {name: found for name, found in contents(store).items() if name not in bookkeeping}


def test_all_is_committed_in_order_of_chunks(store: Store) -> None:
    work = ToyWork()
    progress = execute(store, LocalExecutor(work))
    assert (progress.committed, progress.newly_committed, progress.quarantined) == (N, N, 0)
    assert [len(seen) for seen in work.seen] == [8, 8]


def test_workers_go_on_while_their_results_are_committed(store: Store) -> None:
    workers = Workers(2, store)
    assert execute(store, workers, size=4).newly_committed == N
    assert workers.committed == [0, 0, 0, 0]  # the second pair was handed out before the first was committed


@pytest.mark.parametrize(
    ("work", "losing", "error"),
    [
        (ToyWork(raising=frozenset({5})), {}, "ArithmeticError"),
        (ToyWork(invalid=frozenset({5})), {}, "BadFactsError"),
        (ToyWork(), {5: 10**6}, "WorkerLost"),
    ],
)
def test_one_bad_example_costs_one_example(
    store: Store, work: ToyWork, losing: dict[int, int], error: str
) -> None:
    progress = execute(store, LossyExecutor(work, losing))
    assert (progress.newly_committed, progress.quarantined) == (N - 1, 1)
    assert rows(store, "SELECT example_id, error, attempts FROM quarantine") == [(5, error, ATTEMPTS)]
    assert rows(store, "SELECT count(*) FROM ledger WHERE example_id = 5") == [(0,)]
    assert rows(store, "SELECT count(*) FROM head_scores_dedup WHERE example_id = 5") == [(0,)]
    # Halved, not run one by one: 8 -> 4 -> 2 -> 1, so at most three halves a level are computed.
    assert len(work.seen) <= 2 + 2 * 3 + ATTEMPTS


def test_rows_that_are_wrong_whatever_the_example_end_the_pass(store: Store) -> None:
    """No example is retried or quarantined for it: a fault of ours."""

    class Misspelt(ToyWork):
        def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
            tables = dict(super().compute(chunk))
            return {**tables, "edges": tables["edges"].append_column("atr", tables["edges"]["attr"])}

    work = Misspelt()
    with pytest.raises(TerminalError, match="unknown column 'atr'"):
        execute(store, LocalExecutor(work))
    assert len(work.seen) == 1
    assert rows(store, "SELECT count(*) FROM quarantine") == [(0,)]


class Erring(ToyWork):
    """Bad numbers at the first attempt alone."""

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        invalid = frozenset() if chunk.example_ids in self.seen else self.invalid
        return ToyWork(invalid=invalid, seen=self.seen).compute(chunk)


@pytest.mark.parametrize(
    ("work", "losing"),
    [
        (Erring(invalid=frozenset({5})), {}),
        (ToyWork(greedy=frozenset({6})), {}),  # too large for the memory together with others
        (ToyWork(), {3: 1, 11: 2}),
    ],
)
def test_trouble_that_passes_costs_nothing(
    store: Store, tmp_path: Path, work: ToyWork, losing: dict[int, int]
) -> None:
    progress = execute(store, LossyExecutor(work, losing))
    assert (progress.newly_committed, progress.quarantined) == (N, 0)
    (tmp_path / "clean").mkdir()
    clean = new_store(tmp_path / "clean")
    register(clean, N)
    execute(clean, LocalExecutor(ToyWork()))
    assert facts_only(store) == facts_only(clean)


def test_the_ledger_says_how_long_each_chunk_took(store: Store) -> None:
    started = time.perf_counter()
    execute(store, LocalExecutor(ToyWork(seconds=0.05)))
    took = time.perf_counter() - started
    found = rows(store, "SELECT DISTINCT chunk, seconds FROM ledger ORDER BY ALL")
    assert [chunk for chunk, _ in found] == ["0+7", "8+7"]
    assert all(seconds >= 0.05 for _, seconds in found)
    assert sum(seconds for _, seconds in found) < took


def test_what_another_driver_committed_meanwhile_is_not_doubled(store: Store) -> None:
    commit(store, 1, [2, 3, 9])
    progress = execute(store, LocalExecutor(ToyWork()))
    assert (progress.committed, progress.newly_committed) == (N, N - 3)
    assert rows(store, "SELECT count(*), count(DISTINCT example_id) FROM predictions") == [(N, N)]


def test_a_fault_that_meets_every_example_ends_the_run_early(store: Store) -> None:
    work = ToyWork(raising=frozenset(range(N)))
    with pytest.raises(TerminalError, match="all failed alike.*ArithmeticError: cannot compute"):
        execute(store, LocalExecutor(work), size=4)
    failed = {example_id for (example_id,) in rows(store, "SELECT example_id FROM quarantine")}
    assert FAILED_ALIKE < len(failed) < N
    assert max(failed) == N - 1, "chunks come longest first: the last one is the shortest"


def test_long_examples_that_all_fail_do_not_condemn_the_short_ones(store: Store) -> None:
    longest = frozenset(range(FAILED_ALIKE + 1))
    progress = execute(store, LocalExecutor(ToyWork(raising=longest)), size=4)
    assert (progress.newly_committed, progress.quarantined) == (N - len(longest), len(longest))


def test_bad_examples_that_are_left_of_a_good_run_do_not_end_it(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, N + 1)
    commit(store, pass_id, [N])
    bad = ToyWork(raising=frozenset(range(N)))
    driver = Driver(store, pass_id, LocalExecutor(bad), lambda progress: None)
    progress = driver.execute(chunks(N, 4), Progress(N + 1, 1, 0))
    assert (progress.newly_committed, progress.quarantined) == (0, N)
    seal_pass(store, pass_id)


def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(store: Store) -> None:
    with pytest.raises(UserError, match="no such model"):
        execute(store, LocalExecutor(ToyWork(start_error="no such model")))
    assert rows(store, "SELECT count(*) FROM ledger") == [(0,)]


def test_an_interrupt_keeps_what_is_committed(store: Store) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.newly_committed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Driver(store, 1, LocalExecutor(ToyWork()), interrupt).execute(chunks(N, 4), Progress(N, 0, 0))
    assert rows(store, "SELECT count(*) FROM ledger") == [(4,)]
