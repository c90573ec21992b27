"""What the Ray executor knows about its pools and workers, and who gets a chunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.spec import WorkerPool


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
        pool: The pool.
        missing: Workers to be started.
        failed_starts: Workers that failed to start, in a row.
        start_at: When the next may be started (`time.monotonic()`).
    """

    work: Any
    pool: WorkerPool
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
            "the cluster has no room for a worker, so it does not say how many there shall be",
            got=listed(resources),
            allowed=f"{pool.cpus} CPUs, {pool.gpus:g} GPUs",
            hint="give `workers`: they wait for an autoscaler's machines",
        )
    return pool.model_copy(update={"count": min(pool.count, int(room))})


def listed(resources: Mapping[str, float]) -> str:
    """What a cluster has, for a message."""
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
