"""`attattr jobs list|show|run`: the experiments, as SQL over the store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attattr_batch.cli.logs import (
    LogFileOption,
    LogFormat,
    LogFormatOption,
    MetricsOption,
    progress_reporter,
    say,
    set_up_logging,
)
from attattr_batch.cli.machine import (
    AddressOption,
    BatchTokensOption,
    ChunkDeadlineOption,
    DeviceOption,
    ExecutorOption,
    RetryErrorsOption,
    StageOption,
    WorkersOption,
)
from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    Format,
    FormatOption,
    QuietOption,
    VerboseOption,
    print_rows,
    stderr,
)
from attattr_batch.errors import UserError
from attattr_batch.spec import make_machine

if TYPE_CHECKING:
    from attattr_batch.analysis.parameters import Parameter
    from attattr_batch.analysis.runner import JobResult

FolderOption = Annotated[
    Path | None, typer.Option("--jobs-dir", help="A folder with jobs of your own (*.sql, audits/*.sql).")
]

app = typer.Typer(
    help="Experiments as SQL jobs: tables built from the store, and passes they order.", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    """Adds the command group."""
    root.add_typer(app, name="jobs")
    app.command("list", epilog="Example:  attattr jobs list")(list_jobs)
    app.command("show", epilog="Example:  attattr jobs show pruning_curve")(show)
    app.command(
        "run",
        epilog="Examples:  attattr jobs run   |   attattr jobs run head_universality --run sst2 --run rte"
        "   |   attattr jobs run pruning_curve --param sample=200 --param rows=released",
    )(run)


def list_jobs(
    db: DbOption = DEFAULT_DB, folder: FolderOption = None, form: FormatOption = Format.table
) -> None:
    """List every job in the order in which they are built, and when each was built last."""
    from attattr_batch.analysis.catalogue import load_catalogue

    catalogue = load_catalogue(folder)
    built = _last_built(db) if db.exists() else {}
    columns = ("job", "makes", "last_built", "rows", "description")
    rows = [
        (name, job.materialized, *built.get(name, (None, None)), job.file.description)
        for name, job in catalogue.jobs.items()
    ]
    print_rows(columns, rows, form)


def show(
    job: Annotated[str, typer.Argument(help="Name of the job.")],
    folder: FolderOption = None,
    form: FormatOption = Format.table,
) -> None:
    """Show what a job makes: parameters, also of the jobs it is built from, rows, columns, audits and query.

    The columns that a row is one per have the meanings they have everywhere; jobs/README.md has those too,
    and all types.
    """
    from attattr_batch.analysis.catalogue import load_catalogue

    catalogue = load_catalogue(folder)
    found = catalogue.job(job)
    needed = [one for one in catalogue.with_dependencies([job]) if one is not found]
    parts = [
        ("parameter" if one is found else f"parameter of {one.name}", _declared(parameter), parameter.meaning)
        for one in [found, *needed]
        for parameter in one.parameters.values()
    ]
    if grain := found.file.fields.get("grain"):
        parts.append(("one row per", grain, ""))
    parts += [("column", name, meaning) for name, meaning in found.file.columns.items()]
    parts += [("depends", name, "") for name in found.file.depends]
    parts += [("audit", name, "") for name in found.audits]
    if form is not Format.table:
        parts.append(("query", found.name, found.file.query))
    print_rows(("part", "name", "meaning"), parts, form)
    if form is Format.table:
        typer.echo(found.file.query)
        stderr.print(f"{found.name}: {found.file.description}\n{found.file.path}")


def _declared(parameter: Parameter) -> str:
    return f"{parameter.name} ({parameter.values}; default {parameter.default_text})"


def run(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", help="Jobs to build; none: every job.")
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option("--run", help="Build for this run only (repeatable); rows of other runs stay."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="K=V",
            help="Value of a parameter (repeatable), for every job asked for or needed that has it;"
            " `JOB.K=V` for one job alone.",
        ),
    ] = None,
    folder: FolderOption = None,
    device: DeviceOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    batch_tokens: BatchTokensOption = None,
    chunk_deadline: ChunkDeadlineOption = None,
    stage: StageOption = None,
    retry_errors: RetryErrorsOption = False,
    metrics: MetricsOption = None,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = Format.table,
    log_format: LogFormatOption = LogFormat.text,
    log_file: LogFileOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build jobs, those they depend on first, for every finished run.

    A job that is named, or every one if none is, takes the values of --param, else the defaults; one that is
    only needed keeps the values that the runs were last built with, which must be the same for all. Where a
    value differs from the last build's, all that was built from it is built again too, with the values it
    had, so that the store's tables go together.

    What a job made before is replaced in one transaction, and kept if the job fails. Answers of the model
    that were computed before are used again; an interrupted pass goes on where it stopped. Passes are
    computed where these flags say, wherever the runs were.
    """
    from attattr_batch.analysis.runner import JobRequest, run_jobs
    from attattr_batch.store.database.connection import Store

    set_up_logging(quiet=quiet, verbose=verbose, form=log_format, file=log_file)
    machine = {
        "device": device,
        "executor": executor,
        "workers": workers,
        "address": address,
        "batch_tokens": batch_tokens,
        "chunk_deadline": chunk_deadline,
        "stage": stage,
    }
    request = JobRequest(
        names=jobs or (),
        runs=runs or (),
        params=dict(_pair(text) for text in param or ()),
        folder=folder,
        retry_errors=retry_errors,
        machine=make_machine({key: value for key, value in machine.items() if value is not None}),
    )
    with progress_reporter(log_format, metrics, quiet=quiet) as report:
        results = run_jobs(Store(db), request, report)
    _print_results(results, form)
    if any(result.status != "built" or result.quarantined for result in results):
        raise typer.Exit(1)
    if form is Format.table and not quiet:
        table = _made_by((jobs or ["head_importance"])[-1], folder)
        say(f"next: attattr sql 'select * from {table}' --db {db}   attattr verify --db {db}")


def _made_by(name: str, folder: Path | None) -> str:
    """Name of the table that holds what a job makes."""
    from attattr_batch.analysis.catalogue import load_catalogue
    from attattr_batch.store.writing.passes import ANSWERS

    job = load_catalogue(folder).job(name)
    return ANSWERS[job.pass_kind].name if job.is_pass else job.name


def _print_results(results: list[JobResult], form: Format) -> None:
    columns = ("job", "status", "rows", "seconds", "error")
    rows = [(one.job, one.status, one.rows, round(one.seconds, 2), one.error) for one in results]
    print_rows(columns, rows, form)
    for one in results:
        if one.quarantined:
            text = f"{one.job}: {one.quarantined} quarantined: `attattr status`, then --retry-errors"
            say(text, level=logging.WARNING, job=one.job, quarantined=one.quarantined)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(
            "a parameter is given as name=value",
            got=f"--param {text}",
            allowed="--param seed=1, --param splits.seed=1",
        )
    return name, value


def _last_built(db: Path) -> dict[str, tuple[object, object]]:
    from attattr_batch.store.reading.console import query

    found = query(db, "SELECT job, finished_at, rows FROM built_jobs", max_rows=None)
    return {job: (when, rows) for job, when, rows in found.rows}
