"""Staged shards: the same rows as returned ones, whatever dies, on a folder and on S3."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.fabricate import contents, new_store, register
from helpers.toy_work import FACTS, ToyWork, chunks

from attattr_batch.errors import StoreError, UserError
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors import ChunkOutcome
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.staging import ShardError, Stage, StagedWork, recover
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import pending_ids, register_pass

N = 12


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path)
    register(store, N)
    return store


@pytest.fixture
def stage(tmp_path: Path, store: Store) -> Stage:
    return Stage.of(str(tmp_path / "stage"), 1, store)


@pytest.fixture
def returned(tmp_path: Path) -> Store:
    """A store filled without a stage."""
    (tmp_path / "returned").mkdir()
    store = new_store(tmp_path / "returned")
    register(store, N)
    Driver(store, 1, LocalExecutor(ToyWork()), lambda progress: None).execute(chunks(N, 4), Progress(N, 0, 0))
    return store


def execute(store: Store, stage: Stage, work: ToyWork | None = None) -> Progress:
    """Runs what is pending, as a driver that starts does."""
    with store.read() as connection:
        pending = pending_ids(connection, 1, range(N))
    left = recover(store, 1, stage, pending)
    wanted = [chunk for chunk in chunks(N, 4) if set(chunk.example_ids) <= set(left)]
    with closing(LocalExecutor(StagedWork(work or ToyWork(), stage))) as executor:
        progress = Progress(N, N - len(left), 0)
        return Driver(store, 1, executor, lambda progress: None, stage).execute(wanted, progress)


def same_facts(one: Store, other: Store) -> bool:
    ours, theirs = contents(one), contents(other)
    return all(ours[name] == theirs[name] and ours[name] for name in FACTS)


def test_staged_and_returned_results_are_identical(store: Store, stage: Stage, returned: Store) -> None:
    execute(store, stage)
    assert same_facts(store, returned)
    stage.delete()
    assert not (Path(stage.uri) / stage.key).exists()


def test_a_writer_killed_before_registering_loses_and_doubles_nothing(
    store: Store, stage: Stage, returned: Store
) -> None:
    # Two chunks staged by workers whose driver is gone: one complete, one without its manifest.
    worker = StagedWork(ToyWork(), stage).start()
    for chunk in chunks(N, 4)[:2]:
        worker.compute(chunk)
    complete, partial = stage.names()
    (Path(stage.uri) / stage.key / partial / "manifest.json").unlink()
    work = ToyWork()
    progress = execute(store, stage, work)
    assert len(work.seen) == 2, "the complete chunk is not computed again"
    assert progress.committed == N
    assert same_facts(store, returned)


def test_a_writer_killed_after_registering_doubles_nothing(
    store: Store, stage: Stage, returned: Store
) -> None:
    execute(store, stage)
    StagedWork(ToyWork(), stage).start().compute(chunks(N, 4)[0])
    execute(store, stage)
    assert stage.names() == []
    assert same_facts(store, returned)


def tamper(stage: Stage, name: str) -> None:
    """Puts other numbers into a shard: a file that can be read, with as many rows as were written."""
    path = Path(stage.uri) / stage.key / name / "edges.parquet"
    found = pq.read_table(path)
    zeros = pa.repeat(pa.scalar(0.0, found["attr"].type), found.num_rows)
    pq.write_table(found.set_column(found.column_names.index("attr"), "attr", zeros), path)


class Tampering(LocalExecutor):
    """Spoils the first shard between worker and driver."""

    def __init__(self, work: StagedWork):
        super().__init__(work)
        self.stage: Stage | None = work.stage

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        outcomes = super().wait(timeout_s)
        if self.stage is not None:
            tamper(self.stage, self.stage.names()[-1])
            self.stage = None
        return outcomes


def test_a_shard_that_differs_from_what_was_written_is_computed_again(
    store: Store, stage: Stage, returned: Store
) -> None:
    work = ToyWork()
    with closing(Tampering(StagedWork(work, stage))) as executor:
        driver = Driver(store, 1, executor, lambda progress: None, stage)
        progress = driver.execute(chunks(N, 4), Progress(N, 0, 0))
    assert (progress.newly_committed, progress.quarantined, len(work.seen)) == (N, 0, 4)
    assert same_facts(store, returned)


def test_a_shard_of_an_earlier_driver_that_was_changed_is_computed_again(
    store: Store, stage: Stage, returned: Store
) -> None:
    StagedWork(ToyWork(), stage).start().compute(chunks(N, 4)[0])
    (name,) = stage.names()
    tamper(stage, name)
    with pytest.raises(ShardError, match=r"edges.parquet is not what was written"):
        stage.get(name)
    work = ToyWork()
    execute(store, stage, work)
    assert len(work.seen) == 3
    assert same_facts(store, returned)


def test_a_shard_stays_until_it_is_committed(
    store: Store, stage: Stage, returned: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a commit fails, the driver's or that of one who recovers, what was computed is still there."""

    def full(*_: object) -> None:
        raise StoreError("the database cannot grow: the disk is full")

    work = ToyWork()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("attattr_batch.runtime.driver.commit_chunks", full)
            patch.setattr("attattr_batch.runtime.staging.commit_chunk", full)
            with pytest.raises(StoreError, match="the disk is full"):
                execute(store, stage, work)
        assert (len(stage.names()), len(work.seen)) == (1, 1)
    execute(store, stage, work)
    assert len(work.seen) == 3, "the first chunk is not computed again"
    assert same_facts(store, returned)


def test_shards_that_cannot_be_deleted_end_nothing(
    store: Store, stage: Stage, returned: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = stage._place

    class Stubborn:
        def __getattr__(self, name: str) -> object:
            return getattr(files, name)

        def delete_dir(self, path: str) -> None:
            raise OSError("AWS Error SLOW_DOWN during DeleteObjects operation")

    with monkeypatch.context() as patch:
        patch.setattr("attattr_batch.runtime.staging._open", lambda uri: (Stubborn(), uri))
        assert execute(store, stage).committed == N
        stage.delete()
    assert len(stage.names()) == N // 4
    execute(store, stage)
    assert stage.names() == [], "swept by the next driver, and committed once"
    assert same_facts(store, returned)


def test_passes_and_stores_share_a_folder_without_touching_each_other(tmp_path: Path, store: Store) -> None:
    with store.write() as connection:
        third = register_pass(connection, 1, "attribute", "another pass", {}, N)
    (tmp_path / "copy").mkdir()
    elsewhere = new_store(tmp_path / "copy")
    register(elsewhere, N)
    _, alike = register(store, N, "another run")  # a job orders the very same of several runs
    uri = str(tmp_path / "stage")
    mine, other = Stage.of(uri, 1, store), Stage.of(uri, third, store)
    assert len({mine.key, other.key, Stage.of(uri, alike, store).key, Stage.of(uri, 1, elsewhere).key}) == 4
    StagedWork(ToyWork(), other).start().compute(chunks(N, 4)[0])
    assert recover(store, 1, mine, range(N)) == list(range(N))
    assert len(other.names()) == 1


def test_a_relative_stage_is_the_driver_s(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Stage.of("shared", 1, store).uri == str(tmp_path / "shared")
    assert Stage.of("s3://bucket/folder", 1, store).uri == "s3://bucket/folder"


def test_a_stage_travels_without_its_connection(stage: Stage) -> None:
    stage.check()
    assert pickle.loads(pickle.dumps(stage)) == stage


@pytest.mark.parametrize("uri", ["/proc/no/such/place", "s5://bucket/folder"])
def test_a_stage_that_cannot_be_written_is_refused(store: Store, uri: str) -> None:
    with pytest.raises(UserError, match="the stage cannot be written from here"):
        recover(store, 1, Stage.of(uri, 1, store), range(N))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a bucket on a server with S3's interface, on loopback."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        from pyarrow import fs

        endpoint = f"127.0.0.1:{port}"
        fs.S3FileSystem(
            endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
        ).create_dir("results")
        yield f"s3://results/staged?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_s3_gives_the_same_rows_and_recovers_the_same_way(store: Store, returned: Store, bucket: str) -> None:
    stage = Stage.of(bucket, 1, store)
    StagedWork(ToyWork(), stage).start().compute(chunks(N, 4)[0])
    work = ToyWork()
    execute(store, stage, work)
    assert len(work.seen) == 2
    assert same_facts(store, returned)
    stage.delete()
    assert stage.names() == []
