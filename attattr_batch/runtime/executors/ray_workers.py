"""Ray workers: the part that lives in a process of its own, what the executor knows, and who gets a chunk."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.passes import Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, run_chunk
from attattr_batch.spec import WorkerPool

if TYPE_CHECKING:
    from attattr_batch.runtime.staging import Stage


class Actor:
    """The part of a worker that lives in a Ray process of its own; loads the model once.

    Args:
        work: What it computes.
        stage: Where it writes the rows instead of returning them.
    """

    def __init__(self, work: Work, stage: Stage | None = None):
        self._work = work
        self._stage = stage
        self._worker: Worker | None = None

    def name(self) -> str:
        """Host and process, for people; an answer means that the worker has found room, and lives."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def start(self, files: Mapping[str, bytes] | None = None) -> bool:
        """Loads the worker, from `files` if this machine lacks those of the work.

        Returns:
            Whether it is loaded; if not, this machine lacks the files, or has others in their place.

        Raises:
            UserError, TerminalError: no other worker could start either.
        """
        if self._stage is not None:
            self._stage.check()
        if self._work.is_here():
            self._worker = self._work.start()
        elif files is not None:
            with tempfile.TemporaryDirectory(prefix="attattr-model-") as folder:
                for name, content in files.items():
                    Path(folder, name).write_bytes(content)
                self._worker = self._work.moved(Path(folder)).start()  # the weights are in memory now
        return self._worker is not None

    def compute(self, chunk: Chunk) -> ChunkOutcome:
        """Computes one chunk."""
        assert self._worker is not None
        return run_chunk(self._worker, chunk, self.name(), self._stage)


class Step(Enum):
    """What a worker has been asked for and has not answered yet."""

    place = "find room"
    start = "load the model"
    ping = "say that it lives, before a second attempt"
    compute = "compute a chunk"


@dataclass
class PoolState:
    """A pool: what its workers do, how many are to be started, and how that went.

    Attributes:
        work: Ray's reference to the work.
        shape: Shape and number of its workers.
        missing: Workers to be started.
        failed_starts: Workers that failed to start, in a row.
        start_at: When the next may be started (`time.monotonic()`).
    """

    work: Any
    shape: WorkerPool
    missing: int
    failed_starts: int = 0
    start_at: float = 0.0


@dataclass(eq=False)
class RayWorker:
    """The driver's side of a worker.

    Attributes:
        pool: Its pool.
        actor: Ray's handle.
        name: Host and process, once it has found room.
        step: What it has been asked for last.
        chunk: The chunk that it has or is to get.
        allowed_s: Seconds that the step may take.
        deadline: When the step is given up (`time.monotonic()`).
        killed: Whether the worker was killed, so that it gets nothing more.
        failed: Examples that raised on it.
    """

    pool: PoolState
    actor: Any
    name: str = "a worker that has not started"
    step: Step = Step.place
    chunk: Chunk | None = None
    allowed_s: float = 0.0
    deadline: float = 0.0
    killed: bool = False
    failed: set[int] = field(default_factory=set)


def pick(chunk: Chunk, idle: Sequence[RayWorker], working: Iterable[RayWorker]) -> RayWorker | None:
    """Picks who gets a chunk: the worker that has been idle for longest among those that have not failed it.

    A worker that fails whatever it gets is idle sooner than those that compute: it would have both attempts.

    Returns:
        None if nobody is idle, or if a second attempt is better kept for one of `working`.
    """
    ids = set(chunk.example_ids)
    if fresh := next((one for one in idle if not ids & one.failed), None):
        return fresh
    if chunk.attempt and any(not ids & one.failed for one in working):
        return None
    return next(iter(idle), None)


def filled(pool: WorkerPool, resources: Mapping[str, float]) -> WorkerPool:
    """The pool with no more workers than a cluster with these resources (`CPU`, `GPU`) has room for.

    Raises:
        UserError: there is no room for any.
    """
    room = resources.get("CPU", 0) // pool.cpus
    if pool.gpus:
        room = min(room, resources.get("GPU", 0) // pool.gpus)
    if room < 1:
        raise UserError(
            "the cluster has no room for a worker now, so it cannot say how many to start",
            got=listed(resources),
            allowed=f"{pool.cpus} CPUs, {pool.gpus:g} GPUs",
            hint="give `workers`: they wait for an autoscaler's machines",
        )
    return pool.model_copy(update={"count": min(pool.count, int(room))})


def listed(resources: Mapping[str, float]) -> str:
    """What a cluster has, for a message."""
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
