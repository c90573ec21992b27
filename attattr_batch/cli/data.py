"""`attattr export` and `snapshot`: taking results elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.cli.output import DEFAULT_DB, DbOption, stderr


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog="Example:  attattr export sst2 --to exported/sst2")(export)
    app.command(epilog="Example:  attattr snapshot backup.duckdb")(snapshot)


def export(
    run: Annotated[str, typer.Argument(help="Name or id of the run.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the Parquet files.")],
    db: DbOption = DEFAULT_DB,
) -> None:
    """Write a run's tables as Parquet, with a README of the columns."""
    from attattr_batch.store.connection import Store
    from attattr_batch.store.export import export_run

    files = export_run(Store(db), run, to)
    stderr.print(f"wrote {len(files)} files to {to}; {to / 'README.md'} explains them")


def snapshot(
    path: Annotated[Path, typer.Argument(help="The copy's file.")],
    db: DbOption = DEFAULT_DB,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is no store.")] = False,
) -> None:
    """Copy the store, consistently, even while a run writes."""
    from attattr_batch.store.connection import Store
    from attattr_batch.store.snapshot import snapshot as copy

    copy(Store(db), path, overwrite=overwrite)
    stderr.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
