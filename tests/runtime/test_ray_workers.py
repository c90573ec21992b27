"""Workers that hang, or die, or fail for good: replaced, and no innocent example pays for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.fabricate import facts, new_store, register, rows
from helpers.fake_ray import FakeRay
from helpers.toy_work import ToyWork, chunks

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors import Finished, Lost
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.spec import WorkerPool

DEADLINE_S = 20.0


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return FakeRay(seconds=lambda chunk: 2.0).install(monkeypatch)


def ready_executor(ray: FakeRay, workers: int, work: Work | None = None) -> RayExecutor:
    """All of its workers have started."""
    executor = RayExecutor([(work or ToyWork(), WorkerPool(count=workers))], deadline_s=DEADLINE_S)
    until = ray.now + 5.0
    while ray.now < until:
        executor.wait(1.0)
    return executor


def test_a_worker_that_answered_while_the_driver_waited_lives_on(ray: FakeRay) -> None:
    first, second = chunks(4, 2)
    with closing(ready_executor(ray, 1)) as executor:
        executor.submit(first)
        ray.sleep(2 * DEADLINE_S)  # a commit waits for the file
        assert [type(one) for one in executor.wait(1.0)] == [Finished]
        executor.submit(second)
        ray.sleep(2.0)
        assert [type(one) for one in executor.wait(1.0)] == [Finished]
    assert len(ray.placed) == 1


def test_answers_beyond_those_fetched_at_once_count_as_in_time(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attattr_batch.runtime.executors.ray._AT_ONCE", 2)
    with closing(ready_executor(ray, 5)) as executor:
        for chunk in chunks(5, 1):
            executor.submit(chunk)
        ray.sleep(2 * DEADLINE_S)
        outcomes = [one for _ in range(3) for one in executor.wait(1.0)]
    assert [type(one) for one in outcomes] == [Finished] * 5


def test_a_worker_whose_answer_crosses_its_end_gets_nothing_more(ray: FakeRay) -> None:
    first, second = chunks(4, 2)
    with closing(ready_executor(ray, 1)) as executor:
        ray.seconds = lambda chunk: 2 * DEADLINE_S if chunk == first else 2.0
        executor.submit(first)
        (call,) = [one for one in ray.actors[0].calls if one.at > ray.now]
        answer = call.value
        while not ray.actors[0].dead:
            assert executor.wait(1.0) == []
        call.value = answer
        assert [type(one) for one in executor.wait(1.0)] == [Finished]
        assert not executor.room()
        while not executor.room():
            executor.wait(1.0)
        executor.submit(second)
        ray.sleep(2.0)
        assert [type(one) for one in executor.wait(1.0)] == [Finished]
    assert len(ray.placed) == 2


def test_a_worker_that_hangs_is_killed_and_replaced(ray: FakeRay) -> None:
    ray.seconds = lambda chunk: 3600.0
    with closing(ready_executor(ray, 1)) as executor:
        executor.submit(chunks(1, 1)[0])
        outcomes = [one for _ in range(int(DEADLINE_S) + 4) for one in executor.wait(1.0)]
        assert [one.message for one in outcomes if isinstance(one, Lost)] == [
            "no answer within 20 s, so it was killed"
        ]
    assert len(ray.placed) == 2


def test_a_driver_that_is_kept_waiting_quarantines_nobody(ray: FakeRay, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 9)

    def stall(progress: Progress) -> None:
        ray.sleep(2 * DEADLINE_S)

    with closing(ready_executor(ray, 3)) as executor:
        progress = Driver(store, pass_id, executor, stall).execute(chunks(9, 1), Progress(9, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (9, 0)
    assert rows(store, "SELECT count(DISTINCT chunk) FROM ledger") == [(9,)]
    assert len(ray.placed) == 3


def test_workers_that_died_while_idle_cost_an_example_nothing_but_its_first_attempt(
    ray: FakeRay, tmp_path: Path
) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 1)
    with closing(ready_executor(ray, 5)) as executor:
        for actor in ray.actors[:4]:
            ray.kill(actor)  # their machine is gone
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(1, 1), Progress(1, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (1, 0)
    assert len(ray.placed) == 5 + 4, "every dead one was found and replaced"


def test_all_workers_may_be_found_dead(ray: FakeRay, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4)
    with closing(ready_executor(ray, 3)) as executor:
        for actor in ray.actors:
            ray.kill(actor)
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(4, 1), Progress(4, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (4, 0)


@dataclass(frozen=True)
class BrokenMachine(Work):
    """Work that one machine of several fails, whatever the example, faster than the others compute."""

    broken: int
    started: list[int] = field(default_factory=list)

    def start(self) -> BrokenMachine | ToyWork:
        self.started.append(len(self.started))
        return self if self.started[-1] == self.broken else ToyWork()

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        raise OSError("no space left on device")


def test_an_example_that_one_worker_fails_has_its_second_attempt_on_another(
    ray: FakeRay, tmp_path: Path
) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 24)
    ray.seconds = lambda chunk: 3.0
    with closing(ready_executor(ray, 3, BrokenMachine(1))) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        ray.actors[1].seconds = 0.1
        progress = driver.execute(chunks(24, 2), Progress(24, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (24, 0)


def test_a_worker_alone_has_both_attempts(ray: FakeRay, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4)
    with closing(ready_executor(ray, 1, ToyWork(raising=frozenset({2})))) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(4, 2), Progress(4, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (3, 1)


class PoisonedGpu(Work):
    """A worker whose CUDA context is gone once it has met the example `bad`."""

    def __init__(self, bad: int):
        self._bad, self._dead = bad, False

    def start(self) -> PoisonedGpu:
        return PoisonedGpu(self._bad)

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        self._dead = self._dead or self._bad in chunk.example_ids
        if self._dead:
            raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might ...")
        return facts(chunk.example_ids)


def test_a_worker_without_its_gpu_is_replaced_and_one_example_quarantined(
    ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attattr_batch.runtime.executors.outcomes._gpu_lost", lambda: True)
    store = new_store(tmp_path)
    _, pass_id = register(store, 40)
    with closing(ready_executor(ray, 2, PoisonedGpu(9))) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(40, 4), Progress(40, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (39, 1)
    ((example_id, error, message),) = rows(store, "SELECT example_id, error, message FROM quarantine")
    assert (example_id, error) == (9, "WorkerLost")
    assert message == "the GPU was lost by RuntimeError: CUDA error: device-side assert triggered"
    dead = len([actor for actor in ray.actors if actor.dead])
    assert 0 < dead == len(ray.placed) - 2, "ended, or its memory on the GPU would stay taken"


def test_this_process_without_its_gpu_ends_the_command_which_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attattr_batch.runtime.executors.outcomes._gpu_lost", lambda: True)
    store = new_store(tmp_path)
    _, pass_id = register(store, 40)
    with closing(LocalExecutor(PoisonedGpu(9))) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        with pytest.raises(UserError, match=r"no longer use its GPU\n.*device-side assert(.|\n)*goes on"):
            driver.execute(chunks(40, 4), Progress(40, 0, 0))
    assert rows(store, "SELECT count(*) FROM ledger") == [(8,)]
    assert rows(store, "SELECT count(*) FROM quarantine") == [(0,)]
