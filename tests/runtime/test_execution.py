"""Completing a pass: what is pending, what counts as done now, and where it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.fabricate import facts, new_store, register, rows
from helpers.fake_cuda import pretend
from helpers.toy import toy_model, toy_rows, write_sst2
from helpers.toy_work import ToyWork, chunks
from sqlalchemy import insert

from attattr_batch.engine.model_source import find_model
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from attattr_batch.passes.answering import MaskedAnswersWork
from attattr_batch.passes.inputs import installed_version
from attattr_batch.passes.model_work import Plan
from attattr_batch.passes.requests import Request
from attattr_batch.runtime import execution, run
from attattr_batch.runtime.driver import Progress
from attattr_batch.runtime.execution import ExecutionSettings, choose_executor, complete_pass
from attattr_batch.runtime.executors.local import LocalExecutor, LocalGpuExecutor
from attattr_batch.runtime.staging import Stage
from attattr_batch.spec import MachineSettings, WorkerPool, make_settings, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.migrate import blank_database
from attattr_batch.store.database.tables import metadata


class RecordingRay:
    """Stands in for the Ray executor: keeps what it is asked for."""

    def __init__(self, pools: Sequence[tuple[Work, WorkerPool]], *_: object, fill: bool, stage: Stage | None):
        self.work, self.pools, self.fill = [work for work, _ in pools], [pool for _, pool in pools], fill


def toy_plan(n_examples: int, size: int = 4, **more: Any) -> Plan:
    """A pass over some examples of `toy_work`, in chunks of `size`."""
    examples = [example for chunk in chunks(n_examples, size) for example in chunk.examples]
    tokens = size * examples[0].n_tokens
    facts: dict[str, Any] = {
        "work": ToyWork(),
        "hidden_size": 16,
        "flop_per_token": 1e3,
        "chunk_tokens": tokens,
    }
    return Plan(examples=examples, **(facts | more))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Forty chunks, not much in each; Ray is only asked, not started."""
    monkeypatch.setattr("attattr_batch.runtime.executors.ray.RayExecutor", RecordingRay)
    work = MaskedAnswersWork(
        source=find_model("bundled", task="sst2"),
        device="cpu",
        outputs=(0, 1),
        job="mine",
        request=Request((), pa.table({}), {}, ""),
        batch_tokens=1024,
        max_length=128,
    )
    return toy_plan(40, work=work, size=1)


def executor(plan: Plan, **settings: Any) -> Any:
    machine = make_settings(MachineSettings, settings)
    return choose_executor(machine, plan, plan.chunks(plan.example_ids))


def pools(plan: Plan, **settings: Any) -> list[WorkerPool]:
    found = executor(plan, **settings)
    return [] if isinstance(found, LocalExecutor) else found.pools


def test_small_work_stays_in_this_process(plan: Plan) -> None:
    assert pools(plan) == []
    assert pools(plan, workers=1) == []
    assert pools(plan, executor="ray", workers=3)[0].count == 3


def test_a_pool_of_one_worker_is_asked_for_too(plan: Plan) -> None:
    assert pools(plan, workers=[{"cpus": 8, "gpus": 1}]) == [WorkerPool(cpus=8, gpus=1)]
    with pytest.raises(UserError, match="the local executor has one worker"):
        make_settings(MachineSettings, {"executor": "local", "workers": [{"cpus": 8}]})


def test_a_cluster_is_not_measured_by_this_machine(plan: Plan) -> None:
    found = executor(plan, address="head:6379")
    assert (found.pools, found.fill) == ([WorkerPool(count=40)], True)
    found = executor(plan, address="head:6379", workers=7)
    assert (found.pools, found.fill) == ([WorkerPool(count=7)], False)


def test_long_work_takes_the_cpus_of_this_process_not_the_machine_s(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(plan, flop_per_token=1e13)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("attattr_batch.runtime.cpus._limits", lambda: iter(()))
    for allowed, expected in ((4, [WorkerPool(count=2, cpus=2)]), (1, [])):
        monkeypatch.setattr("os.sched_getaffinity", lambda process, count=allowed: set(range(count)))
        assert pools(long) == expected


def test_no_more_workers_than_chunks(plan: Plan) -> None:
    few = replace(plan, examples=plan.examples[:2])
    assert pools(few, workers=16)[0].count == 2
    assert [one.count for one in pools(few, workers=[{"count": 9}, {"count": 1}])] == [2, 1]


def test_a_worker_computes_with_as_many_threads_as_it_has_cpus(plan: Plan) -> None:
    found = executor(plan, workers=[{"cpus": 3}, {"cpus": 2, "gpus": 1}])
    assert [work.threads for work in found.work] == [3, 2]
    here = executor(plan)
    assert here._work.threads is None, "in this process torch's choice, or the caller's, stays"


def test_gpus_of_this_machine_decide_who_computes(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = replace(plan, work=replace(plan.work, device="cuda", batch_tokens=4096))
    pretend(monkeypatch, 80)
    assert type(executor(on_gpu)) is LocalGpuExecutor
    assert type(executor(plan)) is LocalExecutor
    pretend(monkeypatch, 80, 80)
    assert [(one.count, one.gpus) for one in pools(on_gpu)] == [(2, 1.0)]


def test_workers_that_share_a_gpu_share_its_memory(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 80)
    on_gpu = replace(plan, work=replace(plan.work, device="cuda", batch_tokens=4096))
    workers = [{"gpus": 0.5, "count": 2}, {"gpus": 1}, {"cpus": 2}]
    found = executor(on_gpu, workers=workers, address="head:6379")
    assert [work.batch_tokens for work in found.work] == [2048, 4096, 8192]
    found = executor(on_gpu, workers=workers, address="head:6379", batch_tokens=4096)
    assert [work.batch_tokens for work in found.work] == [4096, 4096, 4096]


def test_what_an_earlier_driver_s_workers_staged_is_committed_by_this_call(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 8)
    uri = str(tmp_path / "stage")
    for chunk in chunks(8, 4):
        Stage.of(uri, pass_id, store).put(chunk, facts(chunk.example_ids))
    how = ExecutionSettings(make_settings(MachineSettings, {"stage": uri}), lambda progress: None)
    progress = complete_pass(store, pass_id, "toy", toy_plan(8), how)
    assert (progress.committed, progress.newly_committed, progress.quarantined) == (8, 8, 0)
    assert rows(store, "SELECT pass_status FROM passes") == [("sealed",)]
    assert list((tmp_path / "stage").iterdir()) == [], "nothing is left of a pass that is sealed"


def test_the_end_of_hours_of_work_outlasts_a_long_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4)
    waits = []

    def seal(store: Store, pass_id: int) -> None:
        waits.append(store.timeout_s)

    monkeypatch.setattr("attattr_batch.runtime.execution.seal_pass", seal)
    plan = toy_plan(4, unfit=dict.fromkeys(range(4), "empty text"))
    complete_pass(store, pass_id, "toy", plan, ExecutionSettings(MachineSettings(), lambda progress: None))
    assert waits == [600.0]


def test_unfit_examples_are_not_tried_again(tmp_path: Path) -> None:
    """They are as unfit as before, and what was built from the run is not out of date for them."""
    store = new_store(tmp_path)
    _, pass_id = register(store, 2)
    plan, sealed = toy_plan(2, unfit={0: "empty text", 1: "empty text"}), set()
    for retry, newly in ((False, 2), (False, 0), (True, 0)):
        how = ExecutionSettings(MachineSettings(), lambda progress: None, retry)
        progress = complete_pass(store, pass_id, "toy", plan, how)
        assert (progress.quarantined, progress.newly_quarantined) == (2, newly)
        sealed.update(
            rows(store, "SELECT p.pass_status, p.finished_at, r.sealed_at FROM passes AS p, runs AS r")
        )
    assert len(sealed) == 1


def test_a_run_that_cannot_start_leaves_its_name_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "x.duckdb", create=True)
    data = write_sst2(tmp_path / "glue", dev=toy_rows(2, seed=1))
    model = toy_model(tmp_path / "model")
    spec = make_spec({"task": "sst2", "model": str(model), "data_dir": str(data)})

    def cannot_start(*_: object) -> Progress:
        raise UserError("no worker can start")

    monkeypatch.setattr(execution, "complete_pass", cannot_start)
    with pytest.raises(UserError, match="no worker can start"):
        run.run_spec(spec, store, lambda progress: None)
    assert rows(store, "SELECT status FROM runs") == []
    monkeypatch.undo()
    assert run.run_spec(spec, store, lambda progress: None).committed == 2


@pytest.mark.parametrize(
    ("gold", "correct", "n_labels", "below"),
    [
        ([0, 1, 1, 1], 0, 2, True),
        ([0, 1, 1, 1], 1, 2, False),
        ([0], 0, 2, False),  # one wrong answer is no sign
        ([0, 0, 0, 1, 1, 1], 2, 3, False),
        ([0, 1, None], 0, 2, True),
        ([], 0, 2, False),
    ],
)
def test_below_chance_takes_every_label(
    gold: list[int | None], correct: int, n_labels: int, below: bool
) -> None:
    with blank_database() as connection:
        for number, label in enumerate([*gold, 0]):
            run_id = 1 if number < len(gold) else 2  # what another run answers does not count
            row = {"run_id": run_id, "example_id": number, "gold": label, "predicted": 0}
            other = {"prob_predicted": 0.5, "probabilities": [0.5, 0.5], "n_tokens": 4, "truncated": False}
            connection.execute(insert(metadata.tables["predictions"]).values(row | other))
        assert run.below_chance(connection, 1, n_labels, correct) == below


def test_a_package_that_is_not_installed_has_no_version() -> None:
    """Such as this one, where a checkout is used as it is."""
    assert installed_version("no-such-package") == "not installed"
