"""Room on a cluster: how many workers fit, and what to say while workers wait for a machine."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from attattr_batch.errors import UserError
from attattr_batch.spec import WorkerPool

log = logging.getLogger(__name__)

_NO_WORKER_S = 60.0
_GIVE_UP_S = 1200.0  # an autoscaler may have to fetch a machine, and the machine an image


class RoomWatch:
    """Says that every worker waits for a machine, and gives up if none ever had one.

    Args:
        ray: The module `ray`, connected.
        pools: The workers asked for.
    """

    def __init__(self, ray: Any, pools: Sequence[WorkerPool]):
        self._ray = ray
        self._wanted = "; ".join(map(str, pools))
        self._ever_worked = False
        self._began_at = self._worked_at = time.monotonic()

    def worked(self) -> None:
        """A worker has found room, and lives."""
        self._ever_worked, self._worked_at = True, time.monotonic()

    def waits(self) -> None:
        """All workers wait for room.

        Raises:
            UserError: they have done so for twenty minutes.
        """
        now = time.monotonic()
        if now - self._worked_at < _NO_WORKER_S:
            return
        there = listed(self._ray.cluster_resources())
        if not self._ever_worked and now - self._began_at > _GIVE_UP_S:
            raise UserError(
                "the cluster has no room for any worker",
                got=f"{there} in all, after {_GIVE_UP_S / 60:g} minutes",
                allowed=f"room for one of {self._wanted}",
                hint="`workers` in the spec says what is asked for; `ray status` what there is",
            )
        text = "no worker runs: waiting for room for %s; the cluster has %s in all"
        log.warning(text, self._wanted, there)
        self._worked_at = now


def say_what_waits(pools: Sequence[WorkerPool], resources: Mapping[str, float]) -> None:
    """Says that a cluster with these resources has fewer GPUs than its workers ask for."""
    wanted, there = sum(pool.count * pool.gpus for pool in pools), resources.get("GPU", 0)
    if wanted > there:
        text = "%g GPUs are asked for, and the cluster has %g: some workers wait until a machine joins it"
        log.warning(text, wanted, there)


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
