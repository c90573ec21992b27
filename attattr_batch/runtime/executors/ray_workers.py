"""Ray workers: the part that lives in a process of its own, what the executor knows, and who gets a chunk."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attattr_batch.data.records import Chunk
from attattr_batch.passes import Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, run_chunk
from attattr_batch.spec import WorkerPool

if TYPE_CHECKING:
    from attattr_batch.runtime.staging import Stage

_LONGEST_PAUSE_S = 60.0


class Actor:
    """The part of a worker that lives in a Ray process of its own; loads the model once.

    With two chunks at a time, each in a thread of its own, one computes while the other's rows are made and
    returned.

    Args:
        work: What it computes.
        stage: Where it writes the rows instead of returning them.
    """

    def __init__(self, work: Work, stage: Stage | None = None):
        self._work = work
        self._stage = stage
        self._worker: Worker | None = None
        self._turn = threading.Lock()

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
        return run_chunk(self._worker, chunk, self.name(), self._stage, self._turn)


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

    def take_due(self, now: float) -> int:
        """How many workers are to be started now: those missing, or one if the last failed to start."""
        if not self.missing or now < self.start_at:
            return 0
        count = 1 if self.failed_starts else self.missing
        self.missing -= count
        self.start_at = inf if self.failed_starts else 0.0
        return count

    def failed(self, now: float) -> float:
        """Notes that a worker failed to start; returns the pause before the next one, in seconds."""
        self.missing += 1
        self.failed_starts += 1
        pause = min(2.0 ** min(self.failed_starts, 6), _LONGEST_PAUSE_S)
        self.start_at = now + pause
        return pause


@dataclass(eq=False)
class RayWorker:
    """The driver's side of a worker.

    Attributes:
        pool: Its pool.
        actor: Ray's handle.
        name: Host and process, once it has found room.
        busy: Chunks that it has.
        alone: A second attempt that it gets as soon as it has nothing else.
        killed: Why the worker was killed, so that it gets nothing more; empty if it was not.
        replaced: Whether another was asked for in its place.
        failed: Examples that raised on it.
    """

    pool: PoolState
    actor: Any
    name: str = "a worker that has not started"
    busy: int = 0
    alone: Chunk | None = None
    killed: str = ""
    replaced: bool = False
    failed: set[int] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Call:
    """What a worker was asked for and has not answered yet.

    Attributes:
        worker: The worker.
        step: What it was asked for.
        chunk: The chunk that it computes, or is to get once it answers.
        allowed_s: Seconds that this may take.
        deadline: When it is given up (`time.monotonic()`).
    """

    worker: RayWorker
    step: Step
    chunk: Chunk | None
    allowed_s: float
    deadline: float


def places(pool: WorkerPool) -> int:
    """Chunks that a worker may have at once: two on a GPU, which then need not wait for the driver."""
    return 2 if pool.gpus else 1


def pick(chunk: Chunk, idle: Sequence[RayWorker], working: Iterable[RayWorker]) -> RayWorker | None:
    """Picks who gets a chunk: the worker with the fewest chunks among those that have not failed it.

    Of several, it is the one that has been idle for longest. A worker that fails whatever it gets is idle
    sooner than those that compute: it would have both attempts.

    Returns:
        None if nobody is idle, or if a second attempt is better kept for one of `working`.
    """
    ids = set(chunk.example_ids)
    fresh = [one for one in idle if not ids & one.failed]
    if not fresh and chunk.attempt and any(not ids & one.failed for one in working):
        return None
    return min(fresh or idle, key=lambda one: one.busy, default=None)
