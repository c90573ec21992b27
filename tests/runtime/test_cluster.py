"""Three Ray nodes on this machine, with logical GPUs: a node dies, another joins, the rows stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import MEMORY, cluster_of
from fabricate import new_store, register, rows
from slow_work import SlowWork
from toy_work import ToyWork, chunks

import attattr_batch.runtime.run
from attattr_batch.passes.plan import AttributionPlan, plan_attribution
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import RunSpec, make_spec
from attattr_batch.store.connection import Store
from attattr_batch.store.export import export_run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]

ROWS = 40
SECONDS = 4.0  # of a chunk


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that computes nothing and two nodes, each with a CPU and a logical GPU; tests leave as many."""
    # A dead node is noticed within two seconds instead of about half a minute.
    health = {
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 500,
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


def slow_plan(spec: RunSpec) -> AttributionPlan:
    """A run whose chunks take longer than a worker's start, so that a node can die in the middle."""
    plan = plan_attribution(spec)
    return replace(plan, work=SlowWork.of(plan.work, SECONDS))


def exported(db: Path, folder: Path) -> dict[str, bytes]:
    export_run(Store(db), 1, folder)
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_a_node_dies_another_joins_and_every_bit_is_as_in_a_local_run(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, spread = tmp_path / "local.duckdb", tmp_path / "spread.duckdb"
    run_spec(spec_of(executor="local"), Store(local, create=True), lambda progress: None)
    victims = list(cluster.worker_nodes)
    first_worker: list[str] = []

    def disturb(progress: Progress) -> None:
        if progress.committed and not first_worker:
            first_worker.extend(
                worker for (worker,) in rows(Store(spread), "SELECT worker FROM ledger LIMIT 1")
            )
            cluster.remove_node(victims[0], allow_graceful=False)
            add_node(cluster)

    pools = [{"gpus": 1, "count": 2}]
    monkeypatch.setattr(attattr_batch.runtime.run, "plan_attribution", slow_plan)
    spec = spec_of(address=cluster.address, workers=pools)
    summary = run_spec(spec, Store(spread, create=True), disturb)
    assert first_worker
    assert (summary.committed, summary.quarantined) == (ROWS, 0)
    ((workers,),) = rows(Store(spread), "SELECT count(DISTINCT worker) FROM ledger")
    assert workers >= 2
    ours, theirs = exported(spread, tmp_path / "a"), exported(local, tmp_path / "b")
    assert ours.keys() == theirs.keys() and len(ours) > 5
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_late_joiners_are_used_and_pools_of_both_kinds_share_the_queue(cluster: Any, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 40)
    joined: list[object] = []

    def add_one(progress: Progress) -> None:
        if progress.committed and not joined:
            joined.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY, wait=False))

    work = ToyWork(seconds=0.8)
    # Two find room at once; the one without a GPU waits for the third node.
    shapes = [(work, Pool(2, gpus=1.0)), (work, Pool(1))]
    with closing(RayExecutor(shapes, cluster.address)) as executor:
        Driver(store, pass_id, executor, add_one).execute(chunks(40, 1), Progress(40, 0, 0))
    assert rows(store, "SELECT count(*), count(DISTINCT worker) FROM ledger") == [(40, 3)]
