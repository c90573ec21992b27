"""What the Ray executor keeps of its pools and workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from attattr_batch.data.records import Chunk
from attattr_batch.runtime.executors.pools import Pool


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
    pool: Pool
    missing: int
    failed_starts: int = 0
    start_at: float = 0.0


@dataclass
class RayWorker:
    """The driver's side of an actor.

    Attributes:
        shape: Its pool.
        actor: Ray's handle.
        name: Host and process, once it has found room.
        deadline: When it is given up (`time.monotonic()`).
        killed: Whether it has been, so that it gets nothing more.
        failed: Examples that raised on it.
    """

    shape: PoolState
    actor: Any
    name: str = "a worker that has not started"
    deadline: float = float("inf")
    killed: bool = False
    failed: set[int] = field(default_factory=set)


def pick(chunk: Chunk, idle: Sequence[RayWorker], working: Iterable[RayWorker]) -> RayWorker | None:
    """Who gets a chunk: who has been idle for longest, and has not failed it.

    A worker that fails whatever it gets is sooner idle than those that compute: it would have both attempts.

    Returns:
        None where nobody is idle, or a second attempt is better kept for one of `working`.
    """
    ids = set(chunk.example_ids)
    if fresh := next((one for one in idle if not ids & one.failed), None):
        return fresh
    if chunk.attempt and any(not ids & one.failed for one in working):
        return None
    return next(iter(idle), None)
