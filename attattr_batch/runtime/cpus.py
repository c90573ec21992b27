"""How many CPUs this process may use: a batch system or a container gives fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Returns the whole CPUs that this process may run on, within its container's limit; at least one."""
    # Only Linux has affinities.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cpus, *_limits()])))


def _limits() -> Iterator[float]:
    """Limits in CPUs on this process's control group and those around it: `cpu.max` holds `200000 100000`."""
    if not _OWN_CGROUPS.exists():
        return  # not Linux
    _, _, own = _OWN_CGROUPS.read_text().partition("0::/")  # the line of cgroup version 2, the last one
    # In a container the path may be the host's: then only the top is there, and it is the container's.
    for folder in (_CGROUPS / own.strip(), *(_CGROUPS / own.strip()).parents):
        if folder.is_relative_to(_CGROUPS) and (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
