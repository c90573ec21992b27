"""`attattr schedule`: recurring runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attattr_batch.choices import RowFormat
from attattr_batch.cli.logs import Log, log_options, say
from attattr_batch.cli.options import add_commands, settings_as_options
from attattr_batch.cli.output import DEFAULT_DB, DbOption, FormatOption, print_rows
from attattr_batch.files import write_file
from attattr_batch.schedule.settings import ALL_JOBS, Schedule
from attattr_batch.schedule.state import State, TickOutcome

if TYPE_CHECKING:
    from attattr_batch.spec import RunSpec

group = typer.Typer(name="schedule", help="Recurring runs, each tick exactly once.", no_args_is_help=True)

StateOption = Annotated[
    Path, typer.Option("--schedules", envvar="ATTATTR_SCHEDULES", help="The schedules: a small SQLite file.")
]
NameArgument = Annotated[
    str, typer.Argument(help="Name of the schedule: lower-case letters, digits and hyphens, at most 60.")
]

DEFAULT_STATE = Path("attattr-schedules.sqlite")

_OPTIONAL = ("tz", "min_rank_correlation", "max_accuracy_drop", "report", "notify_command")


@settings_as_options({key: Schedule.model_fields[key] for key in _OPTIONAL})
def add(
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five fields: minute hour day month weekday.")],
    spec: Annotated[Path, typer.Option(help="Run spec (YAML); may hold {tick:%Y-%m-%d}.")],
    job: Annotated[
        list[str] | None, typer.Option(help="Build this job for the runs of each tick (repeatable); `all`.")
    ] = None,
    *,
    settings: dict[str, Any],
    db: DbOption = DEFAULT_DB,
    schedules: StateOption = DEFAULT_STATE,
) -> None:
    """Add a schedule. It runs only while something calls `run-due`: cron, systemd or Kubernetes.

    Example:
        attattr schedule add nightly --cron "0 2 * * *" --spec night.yaml
    """
    from attattr_batch.analysis.catalogue import load_catalogue
    from attattr_batch.schedule.specs import make_schedule

    load_catalogue().with_dependencies([one for one in job or () if one != ALL_JOBS])
    given = {"name": name, "cron": cron, "spec": spec, "db": db, "created_at": _now(), "jobs": job or ()}
    schedule = make_schedule(given | settings)
    with State(schedules).transaction(create=True) as transaction:
        transaction.add(schedule)
    first = schedule.next_tick(schedule.created_at).astimezone(schedule.zone)
    say(f"schedule {name}: first tick {first:%Y-%m-%d %H:%M %Z}")


def list_(schedules: StateOption = DEFAULT_STATE, form: FormatOption = "table") -> None:
    """List the schedules, each with its next tick, its last one and what came of it.

    Example:
        attattr schedule list --format json
    """
    columns = ("name", "cron", "tz", "next", "last", "status", "message")
    rows = []
    with State(schedules).transaction() as transaction:
        for schedule in transaction.schedules():
            following = _shown(schedule.next_tick(_now()), schedule, form)
            last: list[object] = [None, None, None]
            for tick in transaction.ticks(schedule.name)[-1:]:
                last = [_shown(tick.tick, schedule, form), tick.status, tick.outcome and tick.outcome.message]
            rows.append((schedule.name, schedule.cron, schedule.tz, following, *last))
    print_rows(columns, rows, form)


def _shown(tick: datetime, schedule: Schedule, form: RowFormat) -> datetime | str:
    """A tick in the time zone of its schedule; the table names the zone."""
    local = tick.astimezone(schedule.zone)
    return f"{local:%Y-%m-%d %H:%M %Z}" if form == "table" else local


def rm(name: NameArgument, schedules: StateOption = DEFAULT_STATE) -> None:
    """Remove a schedule; its runs stay in the store.

    Example:
        attattr schedule rm nightly
    """
    State(schedules).remove(name)
    say(f"removed schedule {name}; its runs are kept")


@log_options
def run_due(
    only: Annotated[str | None, typer.Option(help="One schedule only.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to use instead of the specs'.")] = None,
    schedules: StateOption = DEFAULT_STATE,
    form: FormatOption = "table",
    *,
    log: Log,
) -> None:
    """Run every tick that is due, and resume interrupted ones; exit code 1 if one needs attention.

    For cron or a timer to call, every minute if you like: `attattr schedule manifest` writes what they need.

    Example:
        attattr schedule run-due -q
    """
    from attattr_batch.schedule.running import run_due as run

    def run_tick(schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
        from attattr_batch.schedule.attributing import attribute  # loads torch, which few calls need

        with log.reporter() as report:
            return attribute(schedule, specs, previous, report, address)

    ended = run(State(schedules), run_tick, _now, only)
    if form != "table":
        columns = ("schedule", "tick", "status", "outcome")
        rows = [(one.schedule, one.tick, one.status, one.outcome and asdict(one.outcome)) for one in ended]
        print_rows(columns, rows, form)
    if any(one.needs_attention for one in ended):
        raise typer.Exit(1)


def manifest(
    name: NameArgument,
    kind: Annotated[str, typer.Option(help="systemd, crontab, cronjob or rayjob.")],
    to: Annotated[Path | None, typer.Option(help="Folder for the files. Without it: stdout.")] = None,
    image: Annotated[str, typer.Option(help="Kubernetes: container image.")] = "attattr:latest",
    claim: Annotated[str, typer.Option(help="Kubernetes: claim of the shared volume.")] = "attattr",
    mount: Annotated[str, typer.Option(help="Kubernetes: where pods mount it.")] = "/work",
    schedules: StateOption = DEFAULT_STATE,
) -> None:
    """Write what calls `run-due` on time: units for systemd, a line for cron, or documents for Kubernetes.

    Example:
        attattr schedule manifest nightly --kind systemd --to units
    """
    from attattr_batch.schedule.manifests import manifest as make

    with State(schedules).transaction() as transaction:
        schedule = transaction.find(name)
    files = make(kind, schedule, schedules, {"image": image, "claim": claim, "mount": mount})
    for file, text in files.items():
        if to is None:
            print(text if len(files) == 1 else f"# {file}\n{text}")
        else:
            write_file(to / file, text)
            say(f"wrote {to / file}")


def _now() -> datetime:
    return datetime.now(UTC)


add_commands(group, add, list_, rm, run_due, manifest)
