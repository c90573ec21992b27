"""How many CPUs this process may use: a batch system or a container gives fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Whole CPUs of this process: those it may run on, within its container's limit; at least one."""
    # Linux alone has affinities.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cpus, *_limits()])))


def _limits() -> Iterator[float]:
    """Limits in CPUs on this process's control group and those around it (cgroup version 2 or 1)."""
    for folder in _folders():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = (
                    (folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                )
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no limit here


def _folders() -> Iterator[Path]:
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _CGROUPS / controllers
        # In a container the path may be the host's: then only the top is there, and it is the container's.
        group = top / path.strip("/")
        yield from (one for one in (group, *group.parents) if one.is_relative_to(top))
