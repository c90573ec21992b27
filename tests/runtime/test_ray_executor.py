"""The Ray executor against the local one: same rows, survived deaths, clear errors, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.clusters import cluster_of
from helpers.fabricate import contents, facts, new_store, register, rows
from helpers.toy_work import FACTS, ToyWork, chunks

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.runtime.staging import Stage
from attattr_batch.spec import WorkerPool
from attattr_batch.store.database.connection import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

N = 24


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two CPUs that the tests share: to start one takes longer than most of them."""
    with cluster_of(2) as cluster:
        yield cluster.address


def execute(store: Store, pass_id: int, work: ToyWork, address: str) -> Progress:
    with closing(RayExecutor([(work, WorkerPool(count=2))], address)) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        return driver.execute(chunks(N, 3), Progress(N, 0, 0))


def test_a_deadly_example_is_isolated_and_the_rest_equals_a_local_run(address: str, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    local, distributed = new_store(tmp_path / "local"), new_store(tmp_path)
    _, pass_id = register(local, N)
    work = ToyWork(raising=frozenset({7}))
    Driver(local, pass_id, LocalExecutor(work), lambda progress: None).execute(
        chunks(N, 3), Progress(N, 0, 0)
    )
    register(distributed, N)
    progress = execute(distributed, pass_id, ToyWork(deadly=frozenset({7})), address)
    assert (progress.newly_committed, progress.quarantined) == (N - 1, 1)
    assert rows(distributed, "SELECT example_id, error FROM quarantine") == [(7, "WorkerLost")]
    ours, theirs = contents(local), contents(distributed)
    for name in FACTS:
        assert ours[name] == theirs[name]


def test_a_worker_killed_from_outside_costs_nothing(address: str, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, N)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.newly_committed and not killed:
            ((worker,),) = rows(store, "SELECT DISTINCT worker FROM ledger LIMIT 1")
            killed.append(int(worker.split(":")[1]))
            os.kill(killed[0], signal.SIGKILL)

    with closing(RayExecutor([(ToyWork(seconds=0.2), WorkerPool(count=2))], address)) as executor:
        progress = Driver(store, pass_id, executor, kill_one).execute(chunks(N, 3), Progress(N, 0, 0))
    assert killed
    assert (progress.newly_committed, progress.quarantined) == (N, 0)
    assert rows(store, "SELECT count(*), count(DISTINCT example_id) FROM predictions") == [(N, N)]


def test_a_worker_that_hangs_is_replaced_and_its_example_found(address: str, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4)
    work = ToyWork(hanging=frozenset({2}))
    # One example a chunk: two deadlines to wait for, which leave a loaded machine time for the others.
    with closing(RayExecutor([(work, WorkerPool(count=2))], address, deadline_s=8.0)) as executor:
        driver = Driver(store, pass_id, executor, lambda progress: None)
        progress = driver.execute(chunks(4, 1), Progress(4, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (3, 1)
    message = "no answer within 8 s, so it was killed"
    assert rows(store, "SELECT example_id, error, message FROM quarantine") == [(2, "WorkerLost", message)]


def test_a_worker_that_cannot_start_says_why(address: str, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, N)
    with pytest.raises(UserError, match="no such model here"):
        execute(store, pass_id, ToyWork(start_error="no such model here"), address)


class PortableToy(Work):
    """Needs a folder with a file `answer.json` that says 42, as a model needs its weights."""

    def __init__(self, where: Path):
        self.where = where

    def start(self) -> PortableToy:
        if not self.is_here():
            raise UserError("the wrong answer")
        return self

    def is_here(self) -> bool:
        path = self.where / "answer.json"
        return path.exists() and json.loads(path.read_text()) == 42

    def files(self) -> list[Path]:
        return [self.where / "answer.json"]

    def moved(self, folder: Path) -> PortableToy:
        return PortableToy(folder)

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        return facts(chunk.example_ids)


def test_a_machine_that_lacks_the_model_gets_its_files(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4)
    (tmp_path / "answer").mkdir()
    (tmp_path / "answer" / "answer.json").write_text("42")
    monkeypatch.chdir(tmp_path)  # a relative folder: workers live in another one
    with closing(RayExecutor([(PortableToy(Path("answer")), WorkerPool())], address)) as executor:
        Driver(store, pass_id, executor, lambda progress: None).execute(chunks(4, 2), Progress(4, 0, 0))
    assert rows(store, "SELECT count(*) FROM predictions") == [(4,)]


def test_workers_stage_what_they_would_have_returned(address: str, tmp_path: Path) -> None:
    (tmp_path / "returned").mkdir()
    returned, store = new_store(tmp_path / "returned"), new_store(tmp_path)
    register(returned, N)
    Driver(returned, 1, LocalExecutor(ToyWork()), lambda progress: None).execute(
        chunks(N, 3), Progress(N, 0, 0)
    )
    register(store, N)
    stage = Stage.of(str(tmp_path / "stage"), 1, store)
    with closing(RayExecutor([(ToyWork(), WorkerPool())], address, stage=stage)) as executor:
        Driver(store, 1, executor, lambda progress: None, stage).execute(chunks(N, 3), Progress(N, 0, 0))
    ours, theirs = contents(store), contents(returned)
    assert [name for name in FACTS if ours[name] != theirs[name] or not ours[name]] == []
    ((worker,),) = rows(store, "SELECT DISTINCT worker FROM ledger")
    assert worker != "local"


def test_an_unreachable_cluster_is_a_clear_error() -> None:
    with pytest.raises(UserError, match="cannot reach the Ray cluster"):
        RayExecutor([(ToyWork(), WorkerPool())], "127.0.0.1:1")


def test_nothing_is_left_behind_and_stdout_stays_clean() -> None:
    script = (
        "from contextlib import closing\n"
        "from helpers.toy_work import ToyWork, chunks\n"
        "from attattr_batch.spec import WorkerPool\n"
        "from attattr_batch.runtime.executors.ray import RayExecutor\n"
        "with closing(RayExecutor([(ToyWork(), WorkerPool())])) as executor:\n"
        "    while not executor.room():\n"
        "        executor.wait(1.0)\n"
        "    executor.submit(chunks(3, 3)[0])\n"
        "    while not (outcomes := executor.wait(1.0)):\n"
        "        pass\n"
        "print(len(outcomes[0].tables['predictions']))\n"
    )
    command = [sys.executable, "-c", script]
    # A folder of its own: other tests start Ray meanwhile. A short one: socket paths have a limit.
    path = os.pathsep.join(one for one in sys.path if one)
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        done = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": folder, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        left = list(Path(folder).iterdir())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3\n"
    assert left == []


def test_the_local_path_never_imports_ray() -> None:
    script = "import attattr_batch.runtime.run, attattr_batch.cli.main, sys; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
