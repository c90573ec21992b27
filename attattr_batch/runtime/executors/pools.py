"""What a pool of workers is, for who plans pools and for who starts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from attattr_batch.errors import UserError


@dataclass(frozen=True)
class Pool:
    """Workers of one shape.

    Attributes:
        workers: Number of actors.
        cpus: CPUs of each.
        gpus: GPUs of each (logical).
        fitted: Whether fewer are wanted where the cluster has room for fewer.
    """

    workers: int
    cpus: int = 1
    gpus: float = 0.0
    fitted: bool = False

    def __str__(self) -> str:
        return f"{self.workers} x {self.cpus} CPUs, {self.gpus:g} GPUs"

    def fit(self, resources: Mapping[str, float]) -> Pool:
        """The pool as a cluster with these resources (`CPU`, `GPU`) gets it.

        Raises:
            UserError: the number is to be what there is room for, and there is none.
        """
        if not self.fitted:
            return self
        room = resources.get("CPU", 0) // self.cpus
        if self.gpus:
            room = min(room, resources.get("GPU", 0) // self.gpus)
        if room < 1:
            raise UserError(
                "the cluster has no room for a worker, so it does not say how many there shall be",
                got=f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs",
                allowed=f"{self.cpus} CPUs, {self.gpus:g} GPUs",
                hint="give `workers`: they wait for an autoscaler's machines",
            )
        return replace(self, workers=min(self.workers, int(room)), fitted=False)
