"""Files that make systemd, cron or Kubernetes (with KubeRay) call `run-due` on time.

The folder `templates` holds them with placeholders such as `$image`.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from cronsim import CronSim

from attattr_batch.errors import UserError, unknown_name
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.specs import scheduled_specs
from attattr_batch.spec import RunSpec, WorkerPool

_TEMPLATES = Path(__file__).parent / "templates"

_LONGEST_NAME = 22
"""KubeRay appends to a RayJob's name for its clusters, jobs and pods: 36 characters leave it room. Of those,
`attattr-` and `-abcde`, which Kubernetes appends to a `generateName`, take 14."""


def manifest(kind: str, schedule: Schedule, state: Path, pods: Mapping[str, str]) -> dict[str, str]:
    """The files of a manifest: text by name.

    Args:
        kind: systemd, crontab, cronjob or rayjob.
        schedule: The schedule.
        state: The schedules file, where the command runs.
        pods: For Kubernetes: the container `image`, the `claim` (PersistentVolumeClaim) that holds the
            schedules file, specs, data and stores, and its `mount`; the paths of the schedule must be right
            there.

    Raises:
        UserError: there is no such kind, or it cannot carry the schedule.
    """
    match kind:
        case "systemd":
            return _systemd(schedule, state)
        case "crontab":
            return _crontab(schedule, state)
        case "cronjob":
            return _cron_job(schedule, state, pods)
        case "rayjob":
            return _ray_job(schedule, state, pods)
    raise unknown_name("kind of manifest", kind, ("systemd", "crontab", "cronjob", "rayjob"))


def _systemd(schedule: Schedule, state: Path) -> dict[str, str]:
    values = {
        "name": schedule.name,
        "cron": schedule.cron.replace("%", "%%"),
        "zone": schedule.tz,
        "folder": str(schedule.spec.parent).replace("%", "%%"),
        "command": " ".join(_systemd_quoted(word) for word in _command(schedule, state)),
    }
    kinds = ("service", "timer")
    return {f"attattr-{schedule.name}.{kind}": _filled(f"systemd.{kind}", values) for kind in kinds}


def _crontab(schedule: Schedule, state: Path) -> dict[str, str]:
    # cron reads an unescaped % as the end of the command.
    words = shlex.join(_command(schedule, state)).replace("%", r"\%")
    line = f"# attattr schedule {schedule.name}: {schedule.cron} {schedule.tz}\n* * * * * {words}\n"
    return {f"attattr-{schedule.name}.crontab": line}


def _command(schedule: Schedule, state: Path) -> list[str]:
    program = Path(sys.executable).with_name("attattr")
    if not program.exists():
        hint = "install the package where the schedule is to run"
        raise UserError("the `attattr` command is not installed here", got=program, hint=hint)
    return [str(program), *_run_due(schedule, state.absolute()), "--quiet"]


def _run_due(schedule: Schedule, state: Path) -> list[str]:
    return ["schedule", "run-due", "--only", schedule.name, "--schedules", str(state)]


def _systemd_quoted(word: str) -> str:
    """A word of ExecStart=: systemd expands % and $, and reads quotes as a shell does."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(one in word for one in " \t'\"\\;") else escaped


def _ray_job(schedule: Schedule, state: Path, pods: Mapping[str, str]) -> dict[str, str]:
    if len(schedule.name) > _LONGEST_NAME:
        raise UserError(
            "the schedule's name is too long for Kubernetes",
            got=f"{schedule.name} ({len(schedule.name)} characters)",
            allowed=f"{_LONGEST_NAME} characters",
            hint="add the schedule under a shorter name",
        )
    command = ["attattr", *_run_due(schedule, state), "--address", "auto"]
    values = {
        **_metadata(schedule),
        "prefix": f"attattr-{schedule.name}-",
        "command": shlex.join(command),
        "ray": version("ray"),
        **pods,
    }
    groups = [_yaml("workers.yaml", {**values, **group}) for group in _worker_groups(schedule)]
    return {f"attattr-{schedule.name}-rayjob.yaml": _yaml("rayjob.yaml", values) + "".join(groups)}


def _cron_job(schedule: Schedule, state: Path, pods: Mapping[str, str]) -> dict[str, str]:
    """A CronJob that creates a RayJob at every tick, with the rights and the template it needs."""
    (job,) = _ray_job(schedule, state, pods).values()
    zone = "Etc/UTC" if schedule.tz == "UTC" else schedule.tz
    values = {**_metadata(schedule), "cron": _kubernetes_cron(schedule.cron), "zone": zone}
    text = _yaml("cronjob.yaml", values) + textwrap.indent(job, "    ")
    return {f"attattr-{schedule.name}-cronjob.yaml": text}


def _metadata(schedule: Schedule) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "attattr", "attattr/schedule": schedule.name}
    name = f"attattr-{schedule.name}"
    return {"name": name, "labels": labels, "metadata": {"name": name, "labels": labels}}


def _yaml(template: str, values: dict[str, Any]) -> str:
    """A template of YAML; the values are written as JSON, which YAML reads whatever they hold."""
    return _filled(template, {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()})


def _filled(template: str, values: dict[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def _worker_groups(schedule: Schedule) -> list[dict[str, Any]]:
    """A group of pods for each shape of worker that the runs ask for, large enough for each run alone.

    Raises:
        UserError: a run does not say how many workers it wants, or the spec cannot be used.
    """
    pods = Counter[tuple[int, int]]()
    for spec in scheduled_specs(schedule):
        wanted = Counter[tuple[int, int]]()
        for pool in _pools(spec, schedule):
            # As many workers share a pod as share a GPU.
            sharing = math.floor(1 / pool.gpus) if 0 < pool.gpus < 1 else 1
            wanted[pool.cpus * sharing, math.ceil(pool.gpus)] += math.ceil(pool.count / sharing)
        pods |= wanted  # the larger number of each: the runs follow each other
    groups = []
    for number, ((cpus, gpus), count) in enumerate(sorted(pods.items())):
        resources = {"cpu": str(cpus), "memory": f"{8 + 2 * cpus}Gi"}
        resources |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
        group = f"gpu{number}" if gpus else f"cpu{number}"
        groups.append({"group": group, "pods": count, "resources": resources})
    return groups


def _pools(spec: RunSpec, schedule: Schedule) -> list[WorkerPool]:
    """The workers asked for; a bare number asks for GPUs with `device: cuda` alone, as the head has none."""
    machine = spec.machine
    if machine.workers is None:
        raise UserError(
            "a run on Kubernetes must say how many workers it wants, because its cluster starts with none",
            got=f"{schedule.spec}: {spec.data.task or spec.data.dataset} without `workers`",
            allowed="`workers`, as a number or as pools",
            hint="in the spec, such as `workers: [{gpus: 1, cpus: 4, count: 8}]`",
        )
    if isinstance(machine.workers, list):
        return machine.workers
    return [WorkerPool(count=machine.workers, gpus=1.0 if machine.device == "cuda" else 0.0)]


def _kubernetes_cron(expression: str) -> str:
    """The expression, if Kubernetes reads it as this package does.

    Raises:
        UserError: it does not.
    """
    *_, day, _, weekday = expression.split()
    cron = CronSim(expression, datetime.now(UTC))
    # CronSim has negative days for L and LW, and pairs for 5L and 1#2. Its 1/2 means 1, 3, 5 and 7.
    foreign = min(cron.days) < 0 or any(isinstance(one, tuple) for one in cron.weekdays)
    sunday = 7 in cron.weekdays and not weekday.startswith("*")
    either = cron.day_and and "*" not in (day, weekday)
    if foreign or sunday or either:
        raise UserError(
            "Kubernetes would read the cron expression differently, or not at all",
            got=repr(expression),
            allowed="weekdays 0 to 6 (0 is Sunday) or names; no L, LW and #; `*/2` in day-of-month or"
            " weekday only where the other is `*`",
            hint="add the schedule with another expression, or let cron or systemd call it",
        )
    return expression
