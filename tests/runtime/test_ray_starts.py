"""Workers that fail to start, hang or find no room: tried again with pauses, said, given up in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

import pytest
from helpers.fake_ray import FakeRay
from helpers.toy_work import ToyWork, chunks

from attattr_batch.errors import UserError
from attattr_batch.runtime.executors import Finished
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.spec import WorkerPool

GOOD, BROKEN = ToyWork(), ToyWork(raising=frozenset({99}))
HOUR = 3600.0


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Gives the warnings so far."""
    monkeypatch.setattr(logging.getLogger("attattr_batch"), "propagate", True)
    return lambda: [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]


def wait_until(ray: FakeRay, executor: RayExecutor, moment: float) -> None:
    while ray.now < moment:
        executor.wait(1.0)


def test_a_pool_that_cannot_start_tries_now_and_then_beside_one_that_works(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    ray = FakeRay(start=lambda work, _: "dies" if work is BROKEN else "ok").install(monkeypatch)
    shapes = [(BROKEN, WorkerPool(count=4, gpus=1.0)), (GOOD, WorkerPool())]
    with closing(RayExecutor(shapes)) as executor:
        wait_until(ray, executor, 1.0)
        (chunk,) = chunks(2, 2)
        executor.submit(chunk)
        assert [type(one) for one in executor.wait(1.0)] == [Finished]
        wait_until(ray, executor, HOUR)
    tries = len([work for work in ray.placed if work is BROKEN])
    assert 50 < tries < 75, "once a minute in the end"
    assert len(warnings()) == tries
    assert "failed to start (4 x 1 CPUs, 1 GPUs), number 1 in a row" in warnings()[0]
    assert "no such library" in warnings()[0]


def test_workers_come_back_when_what_broke_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    ray.start = lambda work, number: "dies" if number > 1 and ray.now < HOUR else "ok"
    ray.install(monkeypatch)
    with closing(RayExecutor([(GOOD, WorkerPool(count=3))])) as executor:
        wait_until(ray, executor, HOUR + 100)
        ready = 0
        for chunk in chunks(8, 2):
            if executor.room():
                executor.submit(chunk)
                ready += 1
    assert ready == 3


def test_a_run_without_any_worker_ends_soon_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(start=lambda *_: "dies").install(monkeypatch)
    with closing(RayExecutor([(BROKEN, WorkerPool()), (GOOD, WorkerPool(count=2))])) as executor:
        with pytest.raises(UserError, match=r"workers fail to start\n.*in a row(.|\n)*no such library"):
            wait_until(ray, executor, HOUR)
    assert ray.now < 60


def test_a_start_that_hangs_is_ended_and_not_taken_for_want_of_room(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    ray = FakeRay(start=lambda *_: "hangs").install(monkeypatch)
    with closing(RayExecutor([(GOOD, WorkerPool(count=2))])) as executor:
        with pytest.raises(UserError, match=r"workers fail to start(.|\n)*no answer within 1200 s"):
            wait_until(ray, executor, 3 * HOUR)
    assert not [one for one in warnings() if "room" in one]


def test_workers_that_find_no_room_are_said_and_given_up(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    ray = FakeRay(start=lambda *_: "waits", resources={"CPU": 2.0}).install(monkeypatch)
    with closing(RayExecutor([(GOOD, WorkerPool(count=2, gpus=7.0))])) as executor:
        with pytest.raises(UserError, match=r"no room for any worker(.|\n)*one of 2 x 1 CPUs, 7 GPUs"):
            wait_until(ray, executor, HOUR)
    assert 1200 < ray.now < 1300
    assert len(warnings()) == 20, "every minute until then"
    assert "waiting for room for 2 x 1 CPUs, 7 GPUs; the cluster has 2 CPUs, 0 GPUs" in warnings()[0]


def test_a_pool_that_waits_for_room_is_given_up_though_others_fail_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay(start=lambda work, _: "dies" if work is BROKEN else "waits").install(monkeypatch)
    with closing(RayExecutor([(BROKEN, WorkerPool()), (GOOD, WorkerPool(count=2, gpus=7.0))])) as executor:
        with pytest.raises(UserError, match="no room for any worker"):
            wait_until(ray, executor, 3 * HOUR)
    assert ray.now < HOUR


def test_workers_fill_the_cluster_where_no_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(resources={"CPU": 6.0, "GPU": 2.0}).install(monkeypatch)
    for pool, workers in (
        (WorkerPool(count=40), 6),
        (WorkerPool(count=4), 4),
        (WorkerPool(count=40, gpus=1), 2),
    ):
        ray.placed.clear()
        RayExecutor([(GOOD, pool)], "head:6379", fill=True).close()
        assert len(ray.placed) == workers
    ray.resources = {"CPU": 0.0}
    with pytest.raises(UserError, match=r"no room for a worker(.|\n)*give `workers`"):
        RayExecutor([(GOOD, WorkerPool(count=40))], "head:6379", fill=True)
