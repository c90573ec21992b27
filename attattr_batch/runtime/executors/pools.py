"""What a pool of workers is, for who plans pools and for who starts them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pool:
    """Workers of one shape.

    Attributes:
        workers: Number of actors.
        cpus: CPUs of each.
        gpus: GPUs of each (logical).
    """

    workers: int
    cpus: int = 1
    gpus: float = 0.0
