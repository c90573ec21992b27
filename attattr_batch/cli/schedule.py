"""`attattr schedule`: recurring runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attattr_batch.choices import RowFormat
from attattr_batch.cli.logs import Log, log_options, say
from attattr_batch.cli.options import add_commands
from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    FormatOption,
    print_rows,
)
from attattr_batch.files import write_file

if TYPE_CHECKING:
    from attattr_batch.runtime.driver import Reporter
    from attattr_batch.schedule.settings import Schedule
    from attattr_batch.schedule.state import TickOutcome
    from attattr_batch.spec import RunSpec

group = typer.Typer(name="schedule", help="Recurring runs, each tick exactly once.", no_args_is_help=True)

StateOption = Annotated[
    Path, typer.Option("--schedules", envvar="ATTATTR_SCHEDULES", help="The schedules: a small SQLite file.")
]
NameArgument = Annotated[str, typer.Argument(help="Name of the schedule.")]

DEFAULT_STATE = Path("attattr-schedules.sqlite")


def add(
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five fields: minute hour day month weekday.")],
    spec: Annotated[Path, typer.Option(help="Run spec (YAML); may hold {tick:%Y-%m-%d}.")],
    tz: Annotated[str, typer.Option(help="IANA time zone of the cron expression.")] = "UTC",
    min_rank_correlation: Annotated[
        float,
        typer.Option(help="A lower rank correlation of head importance is drift."),
    ] = 0.9,
    max_accuracy_drop: Annotated[float, typer.Option(help="A larger loss of accuracy is drift.")] = 0.02,
    job: Annotated[
        list[str] | None, typer.Option(help="Build this job for the runs of each tick (repeatable); `all`.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here after each tick.")] = None,
    notify_command: Annotated[
        str | None, typer.Option(help="Shell command that gets JSON on stdin when a tick needs attention.")
    ] = None,
    db: DbOption = DEFAULT_DB,
    schedules: StateOption = DEFAULT_STATE,
) -> None:
    """Add a schedule. It runs only while something calls `run-due`: cron, systemd or Kubernetes.

    Example:
        attattr schedule add nightly --cron "0 2 * * *" --spec night.yaml
    """
    from attattr_batch.analysis.catalogue import load_catalogue
    from attattr_batch.schedule.settings import ALL_JOBS, make_schedule
    from attattr_batch.schedule.state import State

    values = {
        "name": name,
        "cron": cron,
        "spec": spec.absolute(),
        "db": db.absolute(),
        "created_at": _now(),
        "tz": tz,
        "min_rank_correlation": min_rank_correlation,
        "max_accuracy_drop": max_accuracy_drop,
        "jobs": job or (),
        "report": None if report is None else report.absolute(),
        "notify_command": notify_command,
    }
    load_catalogue().with_dependencies([one for one in job or () if one != ALL_JOBS])
    schedule = make_schedule(values)
    with State(schedules).transaction(create=True) as transaction:
        transaction.add(schedule)
    first = schedule.next_tick(schedule.created_at).astimezone(schedule.zone)
    say(f"schedule {name}: first tick {first:%Y-%m-%d %H:%M %Z}")


def list_(schedules: StateOption = DEFAULT_STATE, form: FormatOption = "table") -> None:
    """List the schedules, each with its next tick, its last one and what came of it.

    Example:
        attattr schedule list --format json
    """
    from attattr_batch.schedule.state import State

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
    from attattr_batch.schedule.state import State

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
    from attattr_batch.schedule.state import State

    with ExitStack() as stack:

        @cache
        def reporter() -> Reporter:
            return stack.enter_context(log.reporter())

        def run_tick(schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
            from attattr_batch.schedule.attributing import attribute  # loads torch, which few calls need

            return attribute(schedule, specs, previous, reporter(), address)

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
    from attattr_batch.schedule.manifests import Place
    from attattr_batch.schedule.manifests import manifest as make
    from attattr_batch.schedule.state import State

    with State(schedules).transaction() as transaction:
        schedule = transaction.find(name)
    files = make(kind, schedule, Place(schedules, image, claim, mount))
    for file, text in files.items():
        if to is None:
            print(text if len(files) == 1 else f"# {file}\n{text}")
        else:
            write_file(to / file, text)
            say(f"wrote {to / file}")


def _now() -> datetime:
    return datetime.now(UTC)


add_commands(group, add, list_, rm, run_due, manifest)
