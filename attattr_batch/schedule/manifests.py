"""What calls `run-due` on time: files for systemd and cron on one machine, for Kubernetes on a cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from attattr_batch.errors import UserError, unknown_name
from attattr_batch.schedule import kubernetes
from attattr_batch.schedule.settings import Schedule


@dataclass(frozen=True)
class Place:
    """Where the manifest's command will run.

    Attributes:
        state: The schedules file.
        image: Container image, for Kubernetes.
        claim: PersistentVolumeClaim with the schedules file, specs, data and stores, for Kubernetes.
        mount: Where pods mount it; the paths of the schedule must hold there.
        gpus: GPUs of each worker, for Kubernetes.
        workers: Workers at most, for Kubernetes.
    """

    state: Path
    image: str
    claim: str
    mount: str
    gpus: int
    workers: int


def manifest(kind: str, schedule: Schedule, place: Place) -> dict[str, str]:
    """Files of a manifest, by name.

    Raises:
        UserError: the kind is unknown, or cannot carry the schedule: its name is too long, say, it has
            jitter, or its runs fit no machine.
    """
    kinds: dict[str, Callable[[Schedule, Place], dict[str, str]]] = {
        "systemd": _systemd,
        "crontab": _crontab,
        "cronjob": _kubernetes(kubernetes.cron_job),
        "rayjob": _kubernetes(kubernetes.ray_job),
        "raycronjob": _kubernetes(kubernetes.ray_cron_job),
    }
    if kind not in kinds:
        raise unknown_name("kind of manifest", kind, kinds)
    return kinds[kind](schedule, place)


def _systemd(schedule: Schedule, place: Place) -> dict[str, str]:
    """Called every minute: the schedule itself knows when it is due, daylight saving and jitter included."""
    unit = f"attattr-{schedule.name}"
    arguments = " ".join(_quoted(word) for word in _command(schedule, place))
    service = f"""\
[Unit]
Description=attattr schedule {schedule.name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={str(schedule.spec.parent).replace("%", "%%")}
ExecStart={arguments}
Nice=10
# Findings (exit code 1) are in the log and were told; the unit itself did its work.
SuccessExitStatus=1
KillSignal=SIGTERM
"""
    timer = f"""\
[Unit]
Description=attattr schedule {schedule.name} ({schedule.cron.replace("%", "%%")} {schedule.tz})

[Timer]
OnCalendar=minutely
Persistent=true
AccuracySec=1s
RandomizedDelaySec=10
Unit={unit}.service

[Install]
WantedBy=timers.target
"""
    return {f"{unit}.service": service, f"{unit}.timer": timer}


def _crontab(schedule: Schedule, place: Place) -> dict[str, str]:
    # cron reads an unescaped % as the end of the command.
    words = " ".join(shlex.quote(word) for word in _command(schedule, place)).replace("%", r"\%")
    line = f"# attattr schedule {schedule.name}: {schedule.cron} {schedule.tz}\n* * * * * {words}\n"
    return {f"attattr-{schedule.name}.crontab": line}


def _kubernetes(make: kubernetes.Maker) -> Callable[[Schedule, Place], dict[str, str]]:
    def files(schedule: Schedule, place: Place) -> dict[str, str]:
        kubernetes.check_name(schedule.name)
        kubernetes.check_workers(schedule, place)
        documents = make(schedule, place)
        text = yaml.safe_dump_all(documents, sort_keys=False, width=100)
        return {f"{documents[-1]['metadata']['name']}-{documents[-1]['kind'].lower()}.yaml": text}

    return files


def _command(schedule: Schedule, place: Place) -> list[str]:
    program = Path(sys.executable).with_name("attattr")
    if not program.exists():
        hint = "install the package where the schedule is to run"
        raise UserError("the `attattr` command is not installed here", got=program, hint=hint)
    return [
        *(str(program), "schedule", "run-due", "--quiet"),
        *("--only", schedule.name, "--schedules", str(place.state.absolute())),
    ]


def _quoted(word: str) -> str:
    """A word of ExecStart=: systemd expands % and $, and reads quotes as a shell does."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(one in word for one in " \t'\"\\;") else escaped
