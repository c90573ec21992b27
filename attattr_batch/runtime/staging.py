"""Results by way of shared storage: workers write Parquet shards, and the driver reads and commits them.

Each chunk's shards lie in a folder of their own, beside a manifest with their SHA-256 that is written last.
A folder without one was left by a worker that died, and is swept. Commits go through the same ledger as
results that come back directly: shards that were committed already are dropped, and those that a killed
driver left behind are committed by the next.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from attattr_batch.data.records import Chunk
from attattr_batch.errors import AttattrError, BadFactsError, UserError, one_line
from attattr_batch.files import user_path
from attattr_batch.identity import content_key
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunk
from attattr_batch.store.writing.passes import find_pass

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"


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
        with store.read() as connection:
            of_pass = find_pass(connection, pass_id)
        # Not the ids: a new store gives them to others. Not the pass key alone: a job may request the same of
        # several runs.
        key = content_key([of_pass.run_key, of_pass.pass_key, str(store.path.absolute())])
        return cls(uri if "://" in uri else str(user_path(uri).absolute()), key[:24])

    def check(self) -> None:
        """Writes and deletes a file.

        Raises:
            UserError: this machine cannot.
        """
        try:
            files, folder = self._place
            files.create_dir(folder, recursive=True)
            path = f"{folder}/probe-{uuid.uuid4().hex}"
            _write(files, path, b"probe")
            files.delete_file(path)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(
                "the stage cannot be written from here",
                got=f"{self.uri}: {one_line(error)}",
                allowed="a folder that every machine mounts at the same path, or s3://bucket/folder",
                hint="check mounts and permissions, or AWS credentials, on every machine",
            ) from error

    def put(self, chunk: Chunk, tables: Mapping[str, pa.Table]) -> str:
        """Writes a chunk's tables; returns the name of their folder."""
        files, folder = self._place
        name = f"{chunk.example_ids[0]}+{len(chunk.examples) - 1}-{uuid.uuid4().hex}"
        files.create_dir(f"{folder}/{name}", recursive=True)
        shards = {}
        for table, rows in tables.items():
            buffer = io.BytesIO()
            pq.write_table(rows, buffer, compression="zstd")
            _write(files, f"{folder}/{name}/{table}.parquet", buffer.getvalue())
            shards[table] = hashlib.sha256(buffer.getvalue()).hexdigest()
        manifest = {"example_ids": chunk.example_ids, "shards": shards}
        _write(files, f"{folder}/{name}/{_MANIFEST}", json.dumps(manifest).encode())
        return name

    def get(self, name: str) -> tuple[list[int], dict[str, pa.Table]]:
        """Returns the example ids and tables of a folder.

        Raises:
            ShardError: the folder is incomplete, or a shard differs from what was written.
        """
        files, folder = self._place
        try:
            manifest = json.loads(_read(files, f"{folder}/{name}/{_MANIFEST}"))
            tables = {}
            for table, written in manifest["shards"].items():
                content = _read(files, f"{folder}/{name}/{table}.parquet")
                if hashlib.sha256(content).hexdigest() != written:
                    raise ShardError(f"{name}/{table}.parquet is not what was written")
                tables[table] = pq.read_table(pa.BufferReader(content))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ShardError(f"{name}: {one_line(error)}") from error
        return manifest["example_ids"], tables

    def names(self) -> list[str]:
        """Returns the folders that are there, complete or not."""
        files, folder = self._place
        found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def delete(self, name: str = "") -> None:
        """Deletes a folder of shards that is no longer needed, or the whole stage of a complete pass.

        Storage that does not answer must not end a run for this: what stays is never committed twice.
        """
        files, folder = self._place
        path = f"{folder}/{name}".rstrip("/")
        try:
            files.delete_dir(path)
        except OSError as error:
            log.warning("%s stays on the stage: %s", path, one_line(error))

    @property
    def _place(self) -> tuple[Any, str]:
        filesystem, path = _open(self.uri)
        return filesystem, f"{path.rstrip('/')}/{self.key}"


@cache
def _open(uri: str) -> tuple[Any, str]:
    """The file system of a stage, and the path in it; kept by each process, as it must not travel."""
    opened: tuple[Any, str] = fs.FileSystem.from_uri(uri) if "://" in uri else (fs.LocalFileSystem(), uri)
    return opened


def _write(files: Any, path: str, content: bytes) -> None:
    with files.open_output_stream(path) as stream:
        stream.write(content)


def _read(files: Any, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def recover(store: Store, pass_id: int, stage: Stage, pending: Sequence[int]) -> list[int]:
    """Commits what an earlier driver's workers staged, and sweeps the rest.

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
                committed = commit_chunk(store, pass_id, ChunkFacts(example_ids, tables, "staged", 0.0))
                log.info("committed %d examples that an earlier call had staged", len(committed))
                left -= set(example_ids)
        except (ShardError, BadFactsError) as error:
            log.info("swept a stale shard: %s", error)
        stage.delete(name)
    return [example_id for example_id in pending if example_id in left]
