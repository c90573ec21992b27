"""`attattr run`: the main job."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from attattr_batch.cli.options import RetryErrorsOption, is_flag, meaning, settings_as_options
from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    Format,
    FormatOption,
    QuietOption,
    VerboseOption,
    print_rows,
)
from attattr_batch.errors import UserError
from attattr_batch.spec import RUN_KEYS, RunSpec, make_spec
from attattr_batch.spec_file import load_spec

if TYPE_CHECKING:
    from attattr_batch.runtime.driver import Reporter


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "run",
        epilog="Examples:  attattr run   |   attattr run --task sst2 --model my/sst2-model   |   "
        "attattr run --task rte --model ./rte --data-dir ./glue --limit 100   |   attattr run spec.yaml",
        help=f"{inspect.cleandoc(run.__doc__ or '')}\n\n{_spec_keys()}",
    )(run)


@settings_as_options(RUN_KEYS)
def run(
    spec: Annotated[Path | None, typer.Argument(help="Run spec (YAML). Flags win over it.")] = None,
    *,
    settings: dict[str, Any],
    retry_errors: RetryErrorsOption = False,
    metrics: MetricsOption = None,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = Format.table,
    log_format: LogFormatOption = LogFormat.text,
    log_file: LogFileOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Attribute every example of a dataset split into the store.

    Without a spec, task, dataset or model: the bundled mini-GLUE with its tiny models. The same settings
    again resume an unfinished run, and do nothing for a finished one. Ctrl-C loses nothing that is committed.
    """
    set_up_logging(quiet=quiet, verbose=verbose, form=log_format, file=log_file)
    specs, summaries = _specs(spec, settings), []
    with progress_reporter(log_format, metrics, quiet=quiet) as report:
        for one in specs:
            summaries.append(_run_one(one, db, report, retry_errors=retry_errors))
            if not quiet:
                say(_sentence(summaries[-1], db), run=summaries[-1]["name"], **summaries[-1])
    if form is not Format.table:
        print_rows(list(summaries[0]), [list(summary.values()) for summary in summaries], form)
    elif not quiet:
        say(f"next: attattr status --db {db}   attattr sql 'select * from head_summary' --db {db}")
    if any(summary["quarantined"] or summary["uncertified"] for summary in summaries):
        raise typer.Exit(1)


def _spec_keys() -> str:
    """The keys without a flag, for --help."""
    keys = {key: field for key, field in RUN_KEYS.items() if not is_flag(field)}
    lines = [
        textwrap.fill(f"- {key}: {meaning(field)}", 76, subsequent_indent="  ") for key, field in keys.items()
    ]
    # Without the mark \b the list would be filled into one paragraph.
    return "\n".join(
        ["Settings are keys of a spec (`data_dir` for --data-dir), which has these too:\n\n\b", *lines]
    )


def _specs(path: Path | None, flags: dict[str, Any]) -> list[RunSpec]:
    if path is not None:
        return load_spec(path, flags)
    if {"task", "dataset", "model"} & set(flags):
        return [make_spec(flags)]
    unclear = ("name", "revision", "data_dir", "dataset_config", "dataset_revision", "split")
    about = [key for key in unclear if key in flags]
    if about:  # the bundled data would not be what is meant
        raise UserError(
            "the options do not say what to attribute",
            got=", ".join(f"--{key.replace('_', '-')} {flags[key]}" for key in about),
            hint="give --task or --dataset, and --model; `attattr run` alone takes the bundled data",
        )
    from attattr_batch.files import data_folder

    return load_spec(data_folder("jobs") / "runs" / "quickstart.yaml", flags)


def _run_one(spec: RunSpec, db: Path, report: Reporter, *, retry_errors: bool) -> dict[str, Any]:
    from attattr_batch.runtime.run import run_spec
    from attattr_batch.store.database.connection import Store

    return asdict(run_spec(spec, Store(db, create=True), report, retry_errors=retry_errors))


def _sentence(facts: dict[str, Any], db: Path) -> str:
    name = f"run {facts['name']} ({facts['run_id']}) in {db}"
    count = f"{facts['committed']} of {facts['n_examples']} examples"
    if facts["accuracy"] is not None:
        count += f", accuracy {facts['accuracy']:.4f}"
    elif facts["committed"]:
        count += ", no gold labels"
    if not (facts["newly_committed"] or facts["newly_quarantined"]):
        text = f"{name}: complete, nothing to do; {count}"
    else:
        text = f"{name}: {'resumed; ' if facts['resumed'] else ''}{count}"
    if facts["newly_committed"]:
        rate = facts["newly_committed"] / facts["seconds"]
        text += f"; {facts['newly_committed']} now in {facts['seconds']:.0f} s ({rate:.1f}/s)"
    if facts["worst_completeness_error"] is not None:
        text += f"; largest completeness error {facts['worst_completeness_error']:.1g}"
    if facts["truncated"]:
        text += f"\n  {facts['truncated']} truncated: longer than --max-length, or than the model allows"
    if facts["uncertified"]:
        text += f"\n  {facts['uncertified']} rows missed the tolerance: attattr verify --db {db}"
    if facts["quarantined"]:
        text += f"\n  {facts['quarantined']} quarantined: attattr status --db {db}, then --retry-errors"
    return text
