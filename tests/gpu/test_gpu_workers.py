"""Ray workers on a GPU: one with the whole of it, two that share it, one that loses it, and too many."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from helpers.gpu import DEVICE, MARKS, REHEARSAL, only_cuda

for package in ("pyarrow", "sqlalchemy", "duckdb", "alembic", "datasets"):
    pytest.importorskip(package, reason=f"{package} is missing: no store, so no runs")
pytest.importorskip("ray", reason="ray is missing: no workers besides this process")

from helpers.asserting import CHUNK, POISON, AssertingWork, N
from helpers.fabricate import new_store, register
from helpers.toy import rows_of
from helpers.toy_work import chunks

from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.spec import WorkerPool

pytestmark = [*MARKS, pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROOT = Path(__file__).resolve().parents[2]
SPEC = """
task: sst2
model: bundled
data_dir: bundled
limit: 24
batch_tokens: 128
device: {device}
executor: ray
workers: [{{count: {count}, cpus: 1, gpus: {gpus}}}]
"""


def share(gpus: float) -> float:
    """A worker's GPUs; in a rehearsal none."""
    return 0.0 if REHEARSAL else gpus


def run(folder: Path, count: int, gpus: float) -> subprocess.CompletedProcess[str]:
    """Runs the bundled data with workers of one shape, in a process of its own."""
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(device=DEVICE.type, count=count, gpus=gpus), encoding="utf-8")
    command = [sys.executable, "-m", "attattr_batch", "run", str(spec), "--db", str(folder / "runs.duckdb")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(("count", "gpus"), [(1, 1.0), (2, 0.5)], ids=["one GPU", "two halves"])
def test_a_run(count: int, gpus: float, tmp_path: Path) -> None:
    ended = run(tmp_path, count, share(gpus))
    assert ended.returncode == 0, ended.stderr[-3000:]
    db = tmp_path / "runs.duckdb"
    assert rows_of(db, "SELECT count(*), count(DISTINCT example_id) FROM predictions") == [(24, 24)]
    assert rows_of(db, "SELECT count(*) FROM layer_scores WHERE NOT certified") == [(0,)]
    ((workers,),) = rows_of(db, "SELECT count(DISTINCT worker) FROM ledger WHERE worker <> 'local'")
    assert 1 <= workers <= count


@pytest.fixture
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray workers find what this process can import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def execute(folder: Path, work: AssertingWork, pool: WorkerPool) -> tuple[Path, Progress]:
    store = new_store(folder)
    _, pass_id = register(store, N)
    with closing(RayExecutor([(work, pool)])) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        return store.path, driver.execute(chunks(N, CHUNK), Progress(N, 0, 0))


@pytest.mark.usefixtures("_workers_find_the_tests")
def test_two_workers_share_one_gpu_at_the_same_time(tmp_path: Path) -> None:
    work = AssertingWork(DEVICE.type, seconds=1.0)
    db, progress = execute(tmp_path, work, WorkerPool(count=2, gpus=share(0.5)))
    assert (progress.newly_committed, progress.quarantined) == (N, 0)
    assert rows_of(db, "SELECT count(DISTINCT worker) FROM ledger") == [(2,)]


@pytest.mark.usefixtures("_workers_find_the_tests")
def test_a_worker_that_loses_its_gpu_is_replaced(tmp_path: Path) -> None:
    work = AssertingWork(DEVICE.type, frozenset({POISON}))
    db, progress = execute(tmp_path, work, WorkerPool(count=1, gpus=share(1.0)))
    assert (progress.newly_committed, progress.quarantined) == (N - 1, 1)
    assert rows_of(db, "SELECT example_id, error FROM quarantine") == [(POISON, "WorkerLost")]


@only_cuda("it has no GPU that workers could ask for")
def test_more_workers_than_gpus_are_refused_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    ended = run(tmp_path, torch.cuda.device_count() + 1, 1.0)
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert time.monotonic() - started < 60
