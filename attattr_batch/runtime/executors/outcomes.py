"""What the driver needs of an executor, and how the computation of a chunk can end."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Worker

if TYPE_CHECKING:  # a worker that returns its rows needs no database
    from attattr_batch.runtime.staging import Stage


@dataclass(frozen=True)
class Finished:
    """A worker computed the chunk.

    Attributes:
        chunk: The chunk.
        tables: Its rows by table name; none before the driver has read them, if they were staged.
        worker: Which worker, for people.
        seconds: Compute time, without the wait for the worker's other chunk.
        staged: Name of the folder on the stage that holds the rows, if they were staged.
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
        message: What went wrong.
        worker: Which worker, for people.
        error: Name of the exception's type.
        detail: The traceback.
    """

    chunk: Chunk
    message: str
    worker: str
    error: str
    detail: str = ""


@dataclass(frozen=True)
class Lost(Failed):
    """The worker died while it had the chunk, or lost its machine or its GPU."""

    error: str = "WorkerLost"


ChunkOutcome = Finished | Failed


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


def run_chunk(
    worker: Worker,
    chunk: Chunk,
    name: str,
    stage: Stage | None = None,
    turn: AbstractContextManager[object] | None = None,
) -> ChunkOutcome:
    """Computes a chunk and returns what it raises as an outcome; Lost if this process lost its GPU.

    Args:
        worker: Computes it.
        chunk: The chunk.
        name: Name of the worker, for people.
        stage: Where the rows are written instead of being returned.
        turn: A lock to be held while the worker computes, but not while rows are made of what it computed.

    Raises:
        UserError, TerminalError: every other chunk would fail in the same way.
    """
    try:
        with turn or nullcontext():
            started = time.perf_counter()
            computed = worker.compute(chunk)
        tables = computed() if callable(computed) else computed
        staged = None if stage is None else stage.put(chunk, tables)
    except (UserError, TerminalError):
        raise
    except Exception as error:
        if _gpu_lost():
            first_line = str(error).partition("\n")[0]
            return Lost(chunk, f"the GPU was lost by {type(error).__name__}: {first_line}", name)
        kind = type(error).__name__
        return Failed(chunk, str(error) or kind, name, kind, traceback.format_exc())
    seconds = time.perf_counter() - started
    return Finished(chunk, tables if staged is None else {}, name, seconds, staged)


def _gpu_lost() -> bool:
    if "torch" not in sys.modules:  # nobody has used a GPU, and the import takes seconds
        return False
    from attattr_batch.engine.devices import gpu_lost

    return gpu_lost()
