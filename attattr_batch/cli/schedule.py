"""`attattr schedule`: recurring runs."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attattr_batch.choices import Missed, Overlap, RowFormat
from attattr_batch.cli.logs import (
    LogFileOption,
    LogFormatOption,
    MetricsOption,
    progress_reporter,
    set_up_logging,
)
from attattr_batch.cli.options import add_commands
from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    FormatOption,
    QuietOption,
    VerboseOption,
    print_rows,
    stderr,
)
from attattr_batch.files import write_file

if TYPE_CHECKING:
    from attattr_batch.schedule.settings import Schedule

group = typer.Typer(name="schedule", help="Recurring runs, each tick exactly once.", no_args_is_help=True)

StateOption = Annotated[
    Path, typer.Option("--schedules", envvar="ATTATTR_SCHEDULES", help="The schedules: a small SQLite file.")
]
NameArgument = Annotated[str, typer.Argument(help="Name of the schedule.")]

DEFAULT_STATE = Path("attattr-schedules.sqlite")
_SERVE_EVERY_S = 20.0


def add(
    name: NameArgument,
    cron: Annotated[str, typer.Option(help="Five fields: minute hour day month weekday.")],
    spec: Annotated[Path, typer.Option(help="Run spec (YAML); may hold {tick:%Y-%m-%d}.")],
    tz: Annotated[str, typer.Option(help="IANA time zone of the cron expression.")] = "UTC",
    missed: Annotated[Missed, typer.Option(help="Which missed ticks run.")] = "last",
    overlap: Annotated[Overlap, typer.Option(help="A tick that falls into a run.")] = "skip",
    jitter: Annotated[int, typer.Option(help="Seconds below which a fixed delay is drawn.", min=0)] = 0,
    min_rank_correlation: Annotated[
        float, typer.Option(help="Head importance against the tick before: least rank correlation.")
    ] = 0.9,
    max_accuracy_drop: Annotated[float, typer.Option(help="Largest loss of accuracy.")] = 0.02,
    job: Annotated[
        list[str] | None, typer.Option(help="Build this job for each tick's runs (repeatable); `all`.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report here after each run.")] = None,
    notify_url: Annotated[str | None, typer.Option(help="Webhook told when something is wrong.")] = None,
    notify_command: Annotated[
        str | None, typer.Option(help="Shell command told then, with JSON on stdin.")
    ] = None,
    db: DbOption = DEFAULT_DB,
    schedules: StateOption = DEFAULT_STATE,
) -> None:
    """Add a schedule. It fires only while something calls `run-due`: cron, systemd, Kubernetes or `serve`.

    Example:
        attattr schedule add nightly --cron "0 2 * * *" --spec night.yaml
    """
    from attattr_batch.analysis.catalogue import load_catalogue
    from attattr_batch.schedule.settings import ALL_JOBS
    from attattr_batch.schedule.state import State, add_schedule

    values = {
        "name": name,
        "cron": cron,
        "spec": spec.absolute(),
        "db": db.absolute(),
        "created_at": _now(),
        "tz": tz,
        "missed": missed,
        "overlap": overlap,
        "jitter_s": jitter,
        "min_rank_correlation": min_rank_correlation,
        "max_accuracy_drop": max_accuracy_drop,
        "jobs": job or (),
        "report": None if report is None else report.absolute(),
        "notify_url": notify_url,
        "notify_command": notify_command,
    }
    load_catalogue().with_dependencies([one for one in job or () if one != ALL_JOBS])
    schedule = add_schedule(State(schedules), values)
    (first,) = schedule.next_ticks(schedule.created_at, 1)
    stderr.print(f"schedule {name}: first tick {first.astimezone(schedule.zone):%Y-%m-%d %H:%M %Z}")


def list_(schedules: StateOption = DEFAULT_STATE, form: FormatOption = "table") -> None:
    """List the schedules with their next ticks and what became of the last one.

    Example:
        attattr schedule list --format json
    """
    from attattr_batch.schedule.state import State

    columns = ("name", "cron", "tz", "next", "then", "last", "status", "message")
    rows = []
    with State(schedules).transaction() as transaction:
        for schedule in transaction.schedules():
            ticks = [_shown(tick, schedule, form) for tick in schedule.next_ticks(_now(), 2)]
            ended = [
                (_shown(row.tick, schedule, form), row.status, (row.outcome or {}).get("message"))
                for row in transaction.ticks(schedule.name)[-1:]
            ]
            last = ended[0] if ended else (None, None, None)
            rows.append((schedule.name, schedule.cron, schedule.tz, *ticks, *last))
    print_rows(columns, rows, form)


def _shown(tick: datetime, schedule: Schedule, form: RowFormat) -> datetime | str:
    """A tick in the schedule's own time zone, of which people see the name."""
    local = tick.astimezone(schedule.zone)
    return f"{local:%Y-%m-%d %H:%M %Z}" if form == "table" else local


def rm(name: NameArgument, schedules: StateOption = DEFAULT_STATE) -> None:
    """Remove a schedule; its runs stay in the store.

    Example:
        attattr schedule rm nightly
    """
    from attattr_batch.schedule.state import State

    State(schedules).remove(name)
    stderr.print(f"removed schedule {name}; its runs are kept")


def run_due(
    only: Annotated[str | None, typer.Option(help="One schedule only.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to use instead of the specs'.")] = None,
    schedules: StateOption = DEFAULT_STATE,
    form: FormatOption = "table",
    log_format: LogFormatOption = "text",
    log_file: LogFileOption = None,
    metrics: MetricsOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run every tick that is due, and go on with interrupted ones; exit code 1 if one needs attention.

    For cron or a timer to call, every minute if you like: `attattr schedule manifest` writes what they need.

    Example:
        attattr schedule run-due -q
    """
    set_up_logging(quiet=quiet, verbose=verbose, form=log_format, file=log_file)
    from attattr_batch.schedule.due import pending
    from attattr_batch.schedule.running import needs_attention
    from attattr_batch.schedule.running import run_due as run
    from attattr_batch.schedule.state import State, TickRow

    state, ended = State(schedules), list[TickRow]()
    if pending(state, _now(), only):  # called every minute: torch is loaded only when there is work
        from attattr_batch.schedule.attributing import Attributing

        with progress_reporter(log_format, metrics, quiet=quiet) as report:
            ended = run(state, Attributing(report, address), _now, only)
    if form != "table":
        columns = ("schedule", "tick", "status", "outcome")
        print_rows(columns, [(one.schedule, one.tick, one.status, one.outcome) for one in ended], form)
    if any(needs_attention(one) for one in ended):
        raise typer.Exit(1)


def serve(
    schedules: StateOption = DEFAULT_STATE, quiet: QuietOption = False, verbose: VerboseOption = False
) -> None:
    """Call `run-due` for each schedule that is due, in a process of its own, until interrupted.

    Example:
        attattr schedule serve
    """
    from attattr_batch.schedule.due import pending
    from attattr_batch.schedule.state import State

    state = State(schedules)
    with state.transaction(create=True) as transaction:  # schedules may be added while it serves
        stderr.print(f"serving {len(transaction.schedules())} schedules of {schedules}; Ctrl-C ends it")
    command = [sys.executable, "-m", "attattr_batch", "schedule", "run-due", "--schedules", str(schedules)]
    command += ["--quiet"] * quiet + ["--verbose"] * verbose
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while True:
            children = {name: child for name, child in children.items() if child.poll() is None}
            # One that still loads torch has no lock yet: only its process says that the schedule is seen to.
            for name in set(pending(state, _now())) - children.keys():
                children[name] = subprocess.Popen([*command, "--only", name])
            time.sleep(_SERVE_EVERY_S)
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.wait()


def manifest(
    name: NameArgument,
    kind: Annotated[str, typer.Option(help="systemd, crontab, cronjob, rayjob or raycronjob.")],
    to: Annotated[Path | None, typer.Option(help="Folder for the files. Without it: stdout.")] = None,
    image: Annotated[str, typer.Option(help="Kubernetes: container image.")] = "attattr:latest",
    claim: Annotated[str, typer.Option(help="Kubernetes: claim of the shared volume.")] = "attattr",
    mount: Annotated[str, typer.Option(help="Kubernetes: where pods mount it.")] = "/work",
    gpus: Annotated[int, typer.Option(help="Kubernetes: GPUs a worker.", min=0)] = 1,
    workers: Annotated[int, typer.Option(help="Kubernetes: workers at most.", min=1)] = 8,
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
    files = make(kind, schedule, Place(schedules, image, claim, mount, gpus, workers))
    for file, text in files.items():
        if to is None:
            print(text if len(files) == 1 else f"# {file}\n{text}")
        else:
            write_file(to / file, text)
            stderr.print(f"wrote {to / file}")


def _now() -> datetime:
    return datetime.now(UTC)


add_commands(group, add, list_, rm, run_due, serve, manifest)
