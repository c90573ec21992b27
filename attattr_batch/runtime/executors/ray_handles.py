"""What the Ray executor keeps of its pools and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attattr_batch.runtime.executors.pools import Pool


@dataclass
class Shape:
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
class Handle:
    """The driver's side of an actor.

    Attributes:
        shape: Its pool.
        actor: Ray's handle.
        name: Host and process, once it has found room.
        deadline: When it is given up (`time.monotonic()`).
        killed: Whether it has been, so that it gets nothing more.
    """

    shape: Shape
    actor: Any
    name: str = "a worker that has not started"
    deadline: float = float("inf")
    killed: bool = False
