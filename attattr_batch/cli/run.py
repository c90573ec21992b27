"""`attattr run`: the main job."""

from __future__ import annotations

from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attattr_batch.cli.logs import Log, log_options, say
from attattr_batch.cli.options import RetryErrorsOption, settings_as_options
from attattr_batch.cli.output import DEFAULT_DB, DbOption, FormatOption, open_store, print_rows
from attattr_batch.errors import UserError
from attattr_batch.spec import RUN_KEYS, RunSpec, make_spec
from attattr_batch.spec_file import load_spec

if TYPE_CHECKING:
    from attattr_batch.runtime.run import RunSummary


@settings_as_options(RUN_KEYS)
@log_options
def run(
    spec: Annotated[Path | None, typer.Argument(help="Run spec (YAML). Flags win over it.")] = None,
    *,
    settings: dict[str, Any],
    retry_errors: RetryErrorsOption = False,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = "table",
    log: Log,
) -> None:
    """Attribute every example of a dataset split into the store.

    Without a spec, task, dataset or model, the bundled mini-GLUE is attributed with its tiny models. The same
    command again resumes an unfinished run, and leaves a finished one as it is. Ctrl-C loses nothing that is
    committed.

    Examples:
        attattr run
        attattr run --task sst2 --model my/sst2-model
        attattr run --task rte --model ./rte --data-dir ./glue --limit 100
        attattr run spec.yaml
    """
    specs, summaries = _specs(spec, settings), []
    from attattr_batch.runtime.run import run_spec

    store = open_store(db, create=True)
    with log.reporter() as report:
        for one in specs:
            summary = run_spec(one, store, report, retry_errors=retry_errors)
            summaries.append(summary)
            if not log.quiet:
                say(_told(summary, db), run=summary.name, **asdict(summary))
    if form != "table":
        print_rows(list(asdict(summaries[0])), map(astuple, summaries), form)
    elif not log.quiet:
        say(f"next: attattr status --db {db}   attattr sql 'select * from head_summary' --db {db}")
    if any(summary.findings() for summary in summaries):
        raise typer.Exit(1)


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


def _told(summary: RunSummary, db: Path) -> str:
    lines = [str(summary)]
    if summary.truncated:
        lines.append(f"{summary.truncated} truncated: longer than --max-length, or than the model allows")
    lines += [f"{finding}: attattr {command} --db {db}" for finding, command in summary.findings().items()]
    return "\n  ".join(lines)
