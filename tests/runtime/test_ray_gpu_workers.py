"""Two chunks at once on a worker with a GPU: what overlaps, and that no chunk pays for the other's fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.fabricate import facts, new_store, register, rows
from helpers.fake_ray import FakeRay
from helpers.toy_work import ToyWork, chunks

from attattr_batch.data.records import Chunk
from attattr_batch.passes import Work
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Finished, Lost
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.runtime.executors.ray_workers import Actor
from attattr_batch.spec import WorkerPool

DEADLINE_S = 20.0
PATIENCE_S = 30.0


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return FakeRay(seconds=lambda chunk: 2.0).install(monkeypatch)


def ready_executor(ray: FakeRay, *pools: WorkerPool) -> RayExecutor:
    """All of its workers have started."""
    executor = RayExecutor([(ToyWork(), pool) for pool in pools], deadline_s=DEADLINE_S)
    wait_until(ray, executor, ray.now + 5.0)
    return executor


def wait_until(ray: FakeRay, executor: RayExecutor, moment: float) -> list[ChunkOutcome]:
    found: list[ChunkOutcome] = []
    while ray.now < moment:
        found += executor.wait(1.0)
    return found


def handed_out(executor: RayExecutor, some: Sequence[Chunk]) -> int:
    count = 0
    while executor.room():
        executor.submit(some[count])
        count += 1
    return count


def test_a_worker_with_a_gpu_has_two_chunks_and_one_without_has_one(ray: FakeRay) -> None:
    pools = WorkerPool(count=2, gpus=0.5), WorkerPool(count=3)
    with closing(ready_executor(ray, *pools)) as executor:
        assert handed_out(executor, chunks(20, 1)) == 7
    assert sorted(len(actor.chunks) for actor in ray.actors) == [1, 1, 1, 2, 2]
    assert [one["max_concurrency"] for one in ray.options] == [2, 2, 1, 1, 1]


def test_nobody_has_a_second_chunk_while_another_has_none(ray: FakeRay) -> None:
    with closing(ready_executor(ray, WorkerPool(count=3, gpus=1))) as executor:
        for chunk in chunks(3, 1):
            executor.submit(chunk)
    assert [len(actor.chunks) for actor in ray.actors] == [1, 1, 1]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_deadly_example_is_quarantined(
    ray: FakeRay, tmp_path: Path, workers: int, size: int
) -> None:
    """Each death takes along what the worker had beside it; that is computed again, and counted once."""
    store = new_store(tmp_path)
    _, pass_id = register(store, 24)
    deaths: list[Chunk] = []

    def deadly(chunk: Chunk) -> bool:
        deaths.extend([chunk] if 7 in chunk.example_ids else [])
        return 7 in chunk.example_ids

    ray.deadly = deadly
    with closing(ready_executor(ray, WorkerPool(count=workers, gpus=1))) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(24, size), Progress(24, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (23, 1)
    assert rows(store, "SELECT example_id, error FROM quarantine") == [(7, "WorkerLost")]
    assert rows(store, "SELECT count(*), count(DISTINCT example_id) FROM predictions") == [(23, 23)]
    missing = sum(pool.missing for pool in executor._pools)
    assert len(ray.placed) + missing == workers + len(deaths), "one new worker for each that died"


def test_a_second_attempt_has_the_worker_for_itself(ray: FakeRay) -> None:
    first, again, third = chunks(6, 2)
    with closing(ready_executor(ray, WorkerPool(gpus=1))) as executor:
        executor.submit(first)
        executor.submit(Chunk(again.examples, attempt=1))
        assert not executor.room()
        (actor,) = ray.actors
        assert actor.chunks == [first], "it waits for the end of the other"
        (outcome,) = wait_until(ray, executor, ray.now + 2.5)
        assert (outcome.chunk, actor.chunks, executor.room()) == (first, [first, again], False)
        (outcome,) = wait_until(ray, executor, ray.now + 2.5)
        assert outcome.chunk == again
        assert handed_out(executor, [third, first]) == 2


def test_a_second_attempt_that_still_waited_is_not_lost_with_the_worker(ray: FakeRay) -> None:
    first, again = chunks(4, 2)
    ray.deadly = lambda chunk: chunk == first
    with closing(ready_executor(ray, WorkerPool(gpus=1))) as executor:
        executor.submit(first)
        executor.submit(Chunk(again.examples, attempt=1))
        found = wait_until(ray, executor, ray.now + 20)
    assert [(type(one), one.chunk) for one in found] == [(Lost, first), (Finished, again)]
    assert len(ray.placed) == 2


def test_a_worker_that_died_has_no_room_left(ray: FakeRay) -> None:
    """It could have had a second chunk, which would be lost at once."""
    ray.deadly = lambda chunk: True
    with closing(ready_executor(ray, WorkerPool(gpus=1))) as executor:
        executor.submit(chunks(1, 1)[0])
        assert executor.room()
        while not executor.wait(1.0):
            pass
        assert not executor.room()


def test_the_time_of_a_chunk_begins_when_the_other_may_have_ended(ray: FakeRay) -> None:
    ray.seconds = lambda chunk: 0.75 * DEADLINE_S
    with closing(ready_executor(ray, WorkerPool(gpus=1))) as executor:
        assert handed_out(executor, chunks(2, 1)) == 2
        found = wait_until(ray, executor, ray.now + 2 * DEADLINE_S)
    assert [type(one) for one in found] == [Finished, Finished]
    assert len(ray.placed) == 1


def test_a_worker_that_hangs_loses_both_chunks_and_is_replaced_once(ray: FakeRay) -> None:
    ray.seconds = lambda chunk: 3600.0
    with closing(ready_executor(ray, WorkerPool(gpus=1))) as executor:
        assert handed_out(executor, chunks(2, 1)) == 2
        found = wait_until(ray, executor, ray.now + DEADLINE_S + 4)
    assert [(type(one), one.message) for one in found if isinstance(one, Lost)] == [
        (Lost, "no answer within 20 s, so it was killed")
    ] * 2
    assert len(ray.placed) == 2


def test_a_lost_gpu_takes_both_chunks_and_the_other_says_why(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attattr_batch.runtime.executors.outcomes._gpu_lost", lambda: True)
    work, (bad, other) = ToyWork(raising=frozenset({0})), chunks(2, 1)
    executor = RayExecutor([(work, WorkerPool(gpus=1))], deadline_s=DEADLINE_S)
    with closing(executor):
        wait_until(ray, executor, 5.0)
        executor.submit(bad)
        executor.submit(other)
        found = wait_until(ray, executor, ray.now + 10)
        assert executor.room(), "the new worker has started"
    assert [(type(one), one.chunk) for one in found] == [(Lost, bad), (Lost, other)]
    assert {one.message for one in found if isinstance(one, Lost)} == {
        "the GPU was lost by ArithmeticError: cannot compute [0]"
    }
    assert len(ray.placed) == 2


def test_few_examples_are_fetched_at_once(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a GPU's chunk are many: the driver's memory must hold those it fetches."""
    monkeypatch.setattr("attattr_batch.runtime.executors.ray._EXAMPLES_AT_ONCE", 10)
    with closing(ready_executor(ray, WorkerPool(count=4, gpus=1))) as executor:
        assert handed_out(executor, chunks(64, 8)) == 8
        ray.sleep(10.0)
        assert [len(executor.wait(1.0)) for _ in range(5)] == [2, 2, 2, 2, 0]


@dataclass
class TwoParts(Work):
    """Work whose rows are made without the device; each part notes when it begins and ends.

    Attributes:
        making: Called while rows are made, with the first example of the chunk.
    """

    making: Callable[[int], object]
    on_device: list[tuple[str, int]] = field(default_factory=list)

    def start(self) -> TwoParts:
        return self

    def compute(self, chunk: Chunk) -> Callable[[], dict[str, pa.Table]]:
        first = chunk.example_ids[0]
        self.on_device.append(("begins", first))
        time.sleep(0.05)
        self.on_device.append(("ends", first))
        return lambda: self._rows(chunk)

    def _rows(self, chunk: Chunk) -> dict[str, pa.Table]:
        self.making(chunk.example_ids[0])
        return facts(chunk.example_ids)


def both(work: Work, some: Sequence[Chunk]) -> list[ChunkOutcome]:
    """What a worker answers to two chunks at once, in the order of the chunks."""
    actor = Actor(work)
    actor.start()
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(actor.compute, some))


def test_rows_are_made_while_the_next_chunk_has_the_device() -> None:
    second_has_it = threading.Event()

    class Watched(TwoParts):
        def compute(self, chunk: Chunk) -> Callable[[], dict[str, pa.Table]]:
            if self.on_device:
                second_has_it.set()
            return super().compute(chunk)

    def making(first: int) -> None:
        assert second_has_it.wait(PATIENCE_S), "the second chunk waits for the first one's rows"

    outcomes = both(Watched(making), chunks(4, 2))
    tables = [one.tables for one in outcomes if isinstance(one, Finished)]
    assert [one["predictions"]["example_id"].to_pylist() for one in tables] == [[0, 1], [2, 3]]


def test_one_chunk_at_a_time_has_the_device() -> None:
    work = TwoParts(lambda first: None)
    both(work, chunks(4, 2))
    assert [what for what, _ in work.on_device] == ["begins", "ends"] * 2


def test_the_seconds_of_a_chunk_leave_out_the_wait_for_the_other() -> None:
    class Slow(TwoParts):
        def compute(self, chunk: Chunk) -> Callable[[], dict[str, pa.Table]]:
            time.sleep(0 if self.on_device else 1.0)
            return super().compute(chunk)

    outcomes = both(Slow(lambda first: None), chunks(4, 2))
    faster, slower = sorted(one.seconds for one in outcomes if isinstance(one, Finished))
    assert faster < 0.9 < slower


def test_a_chunk_that_raises_lets_the_other_have_the_device() -> None:
    outcomes = both(ToyWork(raising=frozenset({0})), chunks(4, 2))
    assert [type(one).__name__ for one in outcomes] == ["Failed", "Finished"]
