"""CPUs are those of this process: its affinity and its container's limit, not the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attattr_batch.runtime import cpus


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups as the kernel shows them, of a process that may use eight CPUs: `top` and `own`."""
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path / "top")
    monkeypatch.setattr(cpus, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


def test_the_affinity_counts(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpus.usable_cpus() == 8


@pytest.mark.parametrize(
    ("own", "outer", "expected"),
    [
        ("max 100000", "max 100000", 8),
        ("250000 100000", "max 100000", 2),
        ("max 100000", "300000 100000", 3),
        ("50000 100000", "max 100000", 1),
        ("6400000 100000", "max 100000", 8),
    ],
)
def test_a_container_s_limit_counts(groups: Path, own: str, outer: str, expected: int) -> None:
    write(groups, own="0::/slurm/job_7")
    write(groups / "top/slurm", cpu__max=outer)
    write(groups / "top/slurm/job_7", cpu__max=own)
    assert cpus.usable_cpus() == expected


def test_a_container_that_sees_its_host_s_path_has_its_limit_at_the_top(groups: Path) -> None:
    write(groups, own="0::/docker/4f1c")
    write(groups / "top", cpu__max="200000 100000")
    assert cpus.usable_cpus() == 2


def test_control_groups_of_the_first_version_set_no_limit(groups: Path) -> None:
    write(groups, own="5:memory:/job\n4:cpu,cpuacct:/job\n0::/")
    write(groups / "top/cpu,cpuacct/job", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    assert cpus.usable_cpus() == 8
