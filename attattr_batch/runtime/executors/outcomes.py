"""What the driver needs of an executor, and how the computation of a chunk can end."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import pyarrow as pa

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Worker

_SHOWN_IDS = 8


@dataclass(frozen=True)
class Finished:
    """A worker computed the chunk.

    Attributes:
        chunk: The chunk.
        tables: Its rows by table name.
        worker: Which worker, for people.
        seconds: Compute time.
        staged: The folder of shards that the rows were read from, if they were staged.
    """

    chunk: Chunk
    tables: Mapping[str, pa.Table]
    worker: str
    seconds: float
    staged: str | None = None


@dataclass(frozen=True)
class Failed:
    """The computation raised, or returned rows that must not be stored; the worker lives on.

    Attributes:
        chunk: The chunk.
        error: Name of the exception's type.
        message: Its text.
        detail: The traceback.
        worker: Which worker, for people.
    """

    chunk: Chunk
    error: str
    message: str
    detail: str
    worker: str


@dataclass(frozen=True)
class Lost:
    """The worker died while it had the chunk, or lost its machine or its GPU.

    Attributes:
        chunk: The chunk.
        message: What is known about the end.
        worker: Which worker, for people.
    """

    chunk: Chunk
    message: str
    worker: str
    error: ClassVar[str] = "WorkerLost"
    detail: ClassVar[str] = ""


ChunkOutcome = Finished | Failed | Lost


class Executor(Protocol):
    """Computes chunks, in this process or elsewhere."""

    def room(self) -> bool:
        """Whether another chunk can be handed in now."""

    def submit(self, chunk: Chunk) -> None:
        """Hands in a chunk; only when there is room."""

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Waits for outcomes, at most about `timeout_s` seconds; may return none.

        Raises:
            UserError: no worker can start.
        """

    def close(self) -> None:
        """Ends all workers, whatever they are doing."""


def run_chunk(worker: Worker, chunk: Chunk, name: str) -> ChunkOutcome:
    """Computes a chunk and returns what it raises as an outcome; Lost if this process lost its GPU.

    Raises:
        UserError, TerminalError: every other chunk would fail in the same way.
    """
    started = time.perf_counter()
    try:
        tables = worker.compute(chunk)
    except (UserError, TerminalError):
        raise
    except Exception as error:
        if _gpu_lost():
            first_line = str(error).partition("\n")[0]
            return Lost(chunk, f"the GPU was lost by {type(error).__name__}: {first_line}", name)
        detail = traceback.format_exc()
        return Failed(chunk, type(error).__name__, str(error) or type(error).__name__, detail, name)
    return Finished(chunk, tables, name, time.perf_counter() - started)


def shown_ids(chunk: Chunk) -> str:
    """The first eight example ids of a chunk, for a message."""
    ids = chunk.example_ids
    return ", ".join(map(str, ids[:_SHOWN_IDS])) + (", ..." if len(ids) > _SHOWN_IDS else "")


def _gpu_lost() -> bool:
    if "torch" not in sys.modules:  # nobody has used a GPU, and the import takes seconds
        return False
    from attattr_batch.engine.devices import gpu_lost

    return gpu_lost()
