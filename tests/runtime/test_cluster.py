"""Three Ray nodes on this machine, with logical GPUs: a node dies, another joins, the rows stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.clusters import MEMORY, cluster_of
from helpers.fabricate import new_store, register, rows
from helpers.gated_work import GatedWork, TogetherWork
from helpers.toy_work import ToyWork, chunks

import attattr_batch.passes.planning
from attattr_batch.passes.inputs import RunInputs
from attattr_batch.passes.planning import AttributionPlan, plan_attribution
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import RunSpec, WorkerPool, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.reading.export import export_run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]

ROWS = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes nothing and two nodes, each with a CPU and a logical GPU; tests leave as many."""
    # A dead node, which refuses to answer, is noticed within two seconds instead of about half a minute; one
    # that is slow to answer, on a loaded machine, lives on.
    health = {
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 10_000,
        "health_check_failure_threshold": 3,
    }
    with cluster_of(0, **health) as one:
        for _ in range(2):
            add_node(one)
        one.wait_for_nodes(timeout=60)
        yield one


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=MEMORY, wait=False)


def spec_of(**more: Any) -> RunSpec:
    fixed = {"quadrature": "gauss-legendre", "nodes": 4, "batch_tokens": 128, "limit": ROWS}
    return make_spec(
        {"task": "sst2", "model": "bundled", "data_dir": "bundled", "device": "cpu"} | fixed | more
    )


def workers(db: Path) -> int:
    ((count,),) = rows(Store(db), "SELECT count(DISTINCT worker) FROM ledger")
    return int(count)


def exported(db: Path, folder: Path) -> dict[str, bytes]:
    export_run(Store(db), 1, folder)
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_node_dies_another_joins_and_every_bit_is_as_in_a_local_run(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, spread = tmp_path / "local.duckdb", tmp_path / "spread.duckdb"
    run_spec(spec_of(executor="local"), Store(local, create=True), lambda progress: None)
    victims, gate = list(cluster.worker_nodes), tmp_path / "gate"

    def gated_plan(spec: RunSpec, inputs: RunInputs) -> AttributionPlan:
        plan = plan_attribution(spec, inputs)
        return replace(plan, work=GatedWork.of(plan.work, gate))

    def disturb(progress: Progress) -> None:
        """In the middle of the run, which ends only when two workers have had their share."""
        if progress.newly_committed and victims:
            cluster.remove_node(victims.pop(0), allow_graceful=False)
            victims.clear()
            add_node(cluster)
        elif progress.newly_committed and workers(spread) >= 2:
            gate.touch()

    pools = [{"gpus": 1, "count": 2}]
    monkeypatch.setattr(attattr_batch.passes.planning, "plan_attribution", gated_plan)
    spec = spec_of(address=cluster.address, workers=pools)
    summary = run_spec(spec, Store(spread, create=True), disturb)
    assert not victims
    assert (summary.committed, summary.quarantined) == (ROWS, 0)
    assert workers(spread) >= 2
    ours, theirs = exported(spread, tmp_path / "a"), exported(local, tmp_path / "b")
    assert ours.keys() == theirs.keys() and len(ours) > 5
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_a_deadly_example_takes_no_other_along_into_quarantine(cluster: Any, tmp_path: Path) -> None:
    """Each worker with a GPU has two chunks, and loses both."""
    store = new_store(tmp_path)
    _, pass_id = register(store, 24)
    work = ToyWork(deadly=frozenset({7}), seconds=0.1)
    with closing(RayExecutor([(work, WorkerPool(count=2, gpus=1.0))], cluster.address)) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        driver.execute(chunks(24, 3), Progress(24, 0, 0))
    assert rows(store, "SELECT example_id, error FROM quarantine") == [(7, "WorkerLost")]
    assert rows(store, "SELECT count(*), count(DISTINCT example_id) FROM predictions") == [(23, 23)]


def test_late_joiners_are_used_and_pools_of_both_kinds_share_the_queue(cluster: Any, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 40)
    joined: list[object] = []

    def add_one(progress: Progress) -> None:
        if progress.newly_committed and not joined:
            joined.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY, wait=False))

    (tmp_path / "workers").mkdir()
    work = TogetherWork(tmp_path / "workers", 3)
    # Two find room at once; the one without a GPU waits for the third node.
    shapes = [(work, WorkerPool(count=2, gpus=1.0)), (work, WorkerPool())]
    with closing(RayExecutor(shapes, cluster.address)) as executor:
        Driver(store, pass_id, executor, add_one).execute(chunks(40, 1), Progress(40, 0, 0))
    assert rows(store, "SELECT count(*), count(DISTINCT worker) FROM ledger") == [(40, 3)]
