"""`attattr submit`: runs on a cluster, without staying connected."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.cli.logs import say, set_up_logging
from attattr_batch.cli.output import DEFAULT_DB, DbOption, QuietOption


def submit(
    spec: Annotated[Path, typer.Argument(help="Run spec (YAML); its paths must hold on the cluster too.")],
    address: Annotated[str, typer.Option(help="Dashboard of the Ray head, http://HOST:8265.")],
    db: DbOption = DEFAULT_DB,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the log from there, and end with its exit code.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Submit runs to a Ray cluster; the same runs into the same store are submitted once.

    Example:
        attattr submit night.yaml --address http://head:8265 --db /work/r.duckdb
    """
    set_up_logging(quiet=quiet)
    from attattr_batch.runtime.submission import JobServer
    from attattr_batch.spec_file import load_spec

    server = JobServer(address)
    submission_id, new = server.submit(load_spec(spec), db.absolute())
    if not quiet:
        say(f"{submission_id}: {'submitted' if new else 'submitted before, nothing to do'}")
    if follow:
        raise typer.Exit(server.follow(submission_id, sys.stderr.write))
