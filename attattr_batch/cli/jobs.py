"""`attattr jobs list|show|run`: the experiments, as SQL over the store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from attattr_batch.cli.logs import Log, log_options, say
from attattr_batch.cli.options import RetryErrorsOption, add_commands, settings_as_options
from attattr_batch.cli.output import DEFAULT_DB, DbOption, FormatOption, open_store, print_rows, stored_rows
from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings, make_settings

group = typer.Typer(
    name="jobs",
    help="Experiments as SQL jobs: tables built from the store, and model passes that they request.",
    no_args_is_help=True,
)

FolderOption = Annotated[
    Path | None, typer.Option("--jobs-dir", help="A folder with jobs of your own (*.sql, audits/*.sql).")
]


def list_(db: DbOption = DEFAULT_DB, folder: FolderOption = None, form: FormatOption = "table") -> None:
    """List every job in the order in which they are built, and when each was built last.

    Example:
        attattr jobs list
    """
    from attattr_batch.analysis.catalogue import load_catalogue

    catalogue, built = load_catalogue(folder), {}
    if db.exists():
        ((_, found),) = stored_rows(db, "SELECT job, finished_at, rows FROM built_jobs")
        built = {job: (when, n_rows) for job, when, n_rows in found}
    rows = [
        (name, job.materialized, *built.get(name, (None, None)), job.file.description)
        for name, job in catalogue.jobs.items()
    ]
    print_rows(("job", "makes", "last_built", "rows", "description"), rows, form)


def show(
    job: Annotated[str, typer.Argument(help="Name of the job.")],
    folder: FolderOption = None,
    form: FormatOption = "table",
) -> None:
    """Show what a job makes: parameters (also of the jobs it is built from), rows, columns, audits and query.

    The columns that say what one row is about mean the same in every job; jobs/README.md explains them, and
    has all types.

    Example:
        attattr jobs show pruning_curve
    """
    from attattr_batch.analysis.catalogue import load_catalogue

    catalogue = load_catalogue(folder)
    found = catalogue.job(job)
    needed = [one for one in catalogue.with_dependencies([job]) if one is not found]
    parts = []
    for one in [found, *needed]:
        part = "parameter" if one is found else f"parameter of {one.name}"
        for parameter in one.parameters.values():
            about = f"{parameter.name} ({parameter.values}; default {parameter.default_text})"
            parts.append((part, about, parameter.meaning))
    if grain := found.file.fields.get("grain"):
        parts.append(("one row per", grain, ""))
    parts += [("column", name, meaning) for name, meaning in found.file.columns.items()]
    parts += [("depends", name, "") for name in found.file.depends]
    parts += [("audit", name, "") for name in found.audits]
    if form != "table":
        parts.append(("query", found.name, found.file.query))
    print_rows(("part", "name", "meaning"), parts, form)
    if form == "table":
        typer.echo(found.file.query)
        say(f"{found.name}: {found.file.description}\n{found.file.path}")


@settings_as_options(MachineSettings.model_fields)
@log_options
def run(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", help="Jobs to build. Default: every job.")
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
    *,
    settings: dict[str, Any],
    retry_errors: RetryErrorsOption = False,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = "table",
    log: Log,
) -> None:
    """Build jobs, those they depend on first, for every finished run.

    The named jobs, or all of them, take the values of --param, or else the defaults. A job that is only
    needed keeps the values that the runs were last built with, which must be the same for all runs. If a
    value differs from the last build's, everything built from that job is built again with the values it had,
    so that the tables of the store fit together.

    What a job made before is replaced in one transaction, and kept if the job fails. Earlier answers of the
    model are used again, and an interrupted pass goes on where it stopped. Passes are computed where these
    flags say, wherever the runs were computed.

    Examples:
        attattr jobs run
        attattr jobs run head_universality --run sst2 --run rte
        attattr jobs run pruning_curve --param sample=200 --param rows=released
    """
    from attattr_batch.analysis.runner import JobRequest, run_jobs

    request = JobRequest(
        names=jobs or (),
        runs=runs or (),
        params=dict(_pair(text) for text in param or ()),
        folder=folder,
        retry_errors=retry_errors,
        machine=make_settings(MachineSettings, settings),
    )
    with log.reporter() as report:
        results = run_jobs(open_store(db), request, report)
    rows = [(one.job, one.status, one.rows, round(one.seconds, 2), one.error) for one in results]
    print_rows(("job", "status", "rows", "seconds", "error"), rows, form)
    for one in results:
        if one.quarantined:
            text = f"{one.job}: {one.quarantined} quarantined: `attattr status`, then --retry-errors"
            say(text, level=logging.WARNING, job=one.job, quarantined=one.quarantined)
    if any(result.status != "built" or result.quarantined for result in results):
        raise typer.Exit(1)
    if form == "table" and not log.quiet:
        table = _made_by((jobs or ["head_importance"])[-1], folder)
        say(f"next: attattr sql 'select * from {table}' --db {db}   attattr verify --db {db}")


def _made_by(name: str, folder: Path | None) -> str:
    """Name of the table that holds what a job makes."""
    from attattr_batch.analysis.catalogue import load_catalogue

    return load_catalogue(folder).job(name).table


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(
            "a parameter is given as name=value",
            got=f"--param {text}",
            allowed="--param seed=1, --param splits.seed=1",
        )
    return name, value


add_commands(group, list_, show, run)
