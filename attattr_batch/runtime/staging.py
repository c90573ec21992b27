"""Results by way of shared storage: workers write Parquet shards, the one writer registers them.

A chunk's shards lie in a folder of their own, beside a manifest with their rows and SHA-256 that is written
last; a folder without one is a dead worker's, and is swept. Committing goes through the same ledger as
results that come back directly, so shards that were registered already are dropped, and those that a killed
driver left behind are registered by the next.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from sqlalchemy import select

from attattr_batch.data.records import Chunk
from attattr_batch.errors import AttattrError, UserError
from attattr_batch.files import user_path
from attattr_batch.identity import content_key
from attattr_batch.passes import Portable, Work, Worker
from attattr_batch.runtime.executors import ChunkOutcome, Executor, Finished, Lost
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import passes, runs
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunk
from attattr_batch.store.writing.rows import BadFactsError

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_STAGED = "staged"


class ShardError(AttattrError):
    """Shards are missing or not what their worker wrote."""


@dataclass(frozen=True)
class Stage:
    """The shards of one pass.

    Attributes:
        uri: Shared folder (absolute: workers have working folders of their own), or `s3://bucket/folder`.
        key: Names the pass, its run and its store, so that all may share the folder.
    """

    uri: str
    key: str

    @classmethod
    def of(cls, uri: str, pass_id: int, store: Store) -> Stage:
        """The stage of a pass's results for a store."""
        query = (
            select(runs.c.run_key, passes.c.pass_key)
            .join(passes, passes.c.run_id == runs.c.run_id)
            .where(passes.c.pass_id == pass_id)
        )
        with store.read() as connection:
            # Not the ids, which a store made anew gives to others. Jobs order the same of several runs.
            keys = list(connection.execute(query).one())
        uri = uri if "://" in uri else str(user_path(uri).absolute())
        return cls(uri, content_key([*keys, str(store.path.absolute())])[:24])

    def check(self) -> None:
        """Writes and deletes a file.

        Raises:
            UserError: this machine cannot.
        """
        try:
            self._filesystem.create_dir(self._folder, recursive=True)
            path = f"{self._folder}/probe-{uuid.uuid4().hex}"
            self._write(path, b"probe")
            self._filesystem.delete_file(path)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(
                "the stage cannot be written from here",
                got=f"{self.uri}: {' '.join(str(error).split())}",
                allowed="a folder that every machine mounts at the same path, or s3://bucket/folder",
                hint="check mounts and permissions, or AWS credentials, on every machine",
            ) from error

    def put(self, chunk: Chunk, tables: Mapping[str, pa.Table]) -> str:
        """Writes a chunk's tables; returns the name of their folder."""
        name = f"{chunk.example_ids[0]}+{len(chunk.examples) - 1}-{uuid.uuid4().hex}"
        self._filesystem.create_dir(f"{self._folder}/{name}", recursive=True)
        shards = {}
        for table, rows in tables.items():
            buffer = io.BytesIO()
            pq.write_table(rows, buffer, compression="zstd")
            content = buffer.getvalue()
            self._write(f"{self._folder}/{name}/{table}.parquet", content)
            shards[table] = {"rows": rows.num_rows, "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"example_ids": chunk.example_ids, "shards": shards}
        self._write(f"{self._folder}/{name}/{_MANIFEST}", json.dumps(manifest).encode())
        return name

    def get(self, name: str) -> tuple[list[int], dict[str, pa.Table]]:
        """Example ids and tables of a folder.

        Raises:
            ShardError: the folder is incomplete, or a shard differs from what was written.
        """
        try:
            manifest = json.loads(self._read(f"{self._folder}/{name}/{_MANIFEST}"))
            tables = {}
            for table, shard in manifest["shards"].items():
                content = self._read(f"{self._folder}/{name}/{table}.parquet")
                if hashlib.sha256(content).hexdigest() != shard["sha256"]:
                    raise ShardError(f"{name}/{table}.parquet is not what was written")
                tables[table] = pq.read_table(pa.BufferReader(content))
                if tables[table].num_rows != shard["rows"]:
                    raise ShardError(f"{name}/{table}.parquet has not the rows that were written")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ShardError(f"{name}: {' '.join(str(error).split())}") from error
        return manifest["example_ids"], tables

    def names(self) -> list[str]:
        """Folders there are, complete or not."""
        selector = fs.FileSelector(self._folder, allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def drop(self, name: str) -> None:
        """Deletes a folder of shards that nobody needs any more."""
        self._delete(f"{self._folder}/{name}")

    def close(self) -> None:
        """Deletes the stage, once the pass is complete."""
        self._delete(self._folder)

    def _delete(self, path: str) -> None:
        """Storage that does not answer must not end a run for this: what stays is never registered twice."""
        try:
            self._filesystem.delete_dir(path)
        except OSError as error:
            log.warning("%s stays on the stage: %s", path, " ".join(str(error).split()))

    @cached_property
    def _place(self) -> tuple[Any, str]:
        if "://" in self.uri:
            filesystem, path = fs.FileSystem.from_uri(self.uri)
        else:
            filesystem, path = fs.LocalFileSystem(), self.uri
        return filesystem, f"{path.rstrip('/')}/{self.key}"

    @property
    def _filesystem(self) -> Any:
        return self._place[0]

    @property
    def _folder(self) -> str:
        return self._place[1]

    def _write(self, path: str, content: bytes) -> None:
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def _read(self, path: str) -> bytes:
        with self._filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri, "key": self.key}  # file systems do not travel


@dataclass(frozen=True)
class StagedWork:
    """Work whose results are staged, and handed in by name.

    Attributes:
        work: What is computed.
        stage: Where to.
    """

    work: Work
    stage: Stage

    def start(self) -> Worker:
        """Starts the work, once its machine has proved to reach the stage."""
        self.stage.check()
        return _StagingWorker(self.work.start(), self.stage)

    def is_here(self) -> bool:
        """As the work's."""
        return not isinstance(self.work, Portable) or self.work.is_here()

    def files(self) -> Sequence[Path]:
        """As the work's."""
        return self.work.files() if isinstance(self.work, Portable) else []

    def moved(self, folder: Path) -> StagedWork:
        """As the work's."""
        return replace(self, work=self.work.moved(folder)) if isinstance(self.work, Portable) else self


class _StagingWorker:
    def __init__(self, worker: Worker, stage: Stage):
        self._worker = worker
        self._stage = stage

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        name = self._stage.put(chunk, self._worker.compute(chunk))
        return {_STAGED: pa.table({"name": [name]})}


class StagedExecutor:
    """Reads what the workers of another executor have staged."""

    def __init__(self, executor: Executor, stage: Stage):
        self._executor = executor
        self._stage = stage
        self._read: list[str] = []

    def room(self) -> bool:
        """As the executor's."""
        return self._executor.room()

    def submit(self, chunk: Chunk) -> None:
        """As the executor's."""
        self._executor.submit(chunk)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Outcomes with their tables read back; unreadable ones count as lost."""
        # The driver has committed, or given up, what it was given before.
        for name in self._read:
            self._stage.drop(name)
        self._read.clear()
        return [
            self._loaded(one) if isinstance(one, Finished) else one for one in self._executor.wait(timeout_s)
        ]

    def close(self) -> None:
        """As the executor's."""
        self._executor.close()

    def _loaded(self, finished: Finished) -> ChunkOutcome:
        name = finished.tables[_STAGED]["name"][0].as_py()
        try:
            _, tables = self._stage.get(name)
        except ShardError as error:
            return Lost(finished.chunk, str(error), finished.worker)
        self._read.append(name)
        return replace(finished, tables=tables)


def recover(store: Store, pass_id: int, stage: Stage, pending: Sequence[int]) -> list[int]:
    """Registers what an earlier driver's workers staged, and sweeps the rest.

    Args:
        store: The store.
        pass_id: The pass.
        stage: Its stage.
        pending: The pass's examples that are not done.

    Returns:
        Those that are still not done, in the same order.

    Raises:
        UserError: the stage cannot be used from here.
    """
    stage.check()
    left = set(pending)
    for name in stage.names():
        try:
            example_ids, tables = stage.get(name)
            if left & set(example_ids):
                facts = ChunkFacts(
                    pass_id=pass_id,
                    example_ids=example_ids,
                    tables=tables,
                    chunk=name,
                    worker=_STAGED,
                    seconds=0.0,
                )
                committed = commit_chunk(store, facts)
                log.info("registered %d staged examples of an earlier call", len(committed))
                left -= set(example_ids)
        except (ShardError, BadFactsError) as error:
            log.info("swept a stale shard: %s", error)
        stage.drop(name)
    return [example_id for example_id in pending if example_id in left]
