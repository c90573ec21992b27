"""Where a pass is computed: what the settings ask for, and what fits where nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from toy_work import chunks

from attattr_batch.engine.models import find_model
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from attattr_batch.passes.masked_accuracy import MaskedAccuracyWork
from attattr_batch.passes.order import Order
from attattr_batch.runtime.execution import Load, choose_executor
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.spec import make_machine


class RecordingRay:
    """Stands in for the Ray executor: keeps what it is asked for."""

    def __init__(self, shapes: Sequence[tuple[Work, Pool]], address: str | None, deadline_s: float):
        self.pools = [pool for _, pool in shapes]
        self.work = [work for work, _ in shapes]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Forty chunks, not much in each; Ray is only asked, not started."""
    monkeypatch.setattr("attattr_batch.runtime.executors.ray.RayExecutor", RecordingRay)
    work = MaskedAccuracyWork(
        source=find_model("bundled", task="sst2"),
        device="cpu",
        outputs=(0, 1),
        job="mine",
        order=Order((), {}, ""),
        batch_tokens=1024,
    )
    return Load(work, chunks(40, 1), flop=1e6, cpu_batch_tokens=512)


def pools(load: Load, **settings: Any) -> list[Pool]:
    executor: Any = choose_executor(make_machine(settings), load)
    return [] if isinstance(executor, LocalExecutor) else executor.pools


def test_small_work_stays_in_this_process(load: Load) -> None:
    assert pools(load) == []
    assert pools(load, workers=1) == []
    assert pools(load, executor="ray", workers=3)[0].workers == 3


def test_a_pool_of_one_worker_is_asked_for_too(load: Load) -> None:
    assert pools(load, workers=[{"cpus": 8, "gpus": 1}]) == [Pool(1, 8, 1.0)]
    with pytest.raises(UserError, match="the local executor has one worker"):
        pools(load, executor="local", workers=[{"cpus": 8}])


def test_no_more_workers_than_chunks(load: Load) -> None:
    few = replace(load, chunks=load.chunks[:2])
    assert pools(few, workers=16)[0].workers == 2
    assert [one.workers for one in pools(few, workers=[{"count": 9}, {"count": 1}])] == [2, 1]
