"""`attattr export` and `snapshot`: taking results elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attattr_batch.choices import Form, RowTarget
from attattr_batch.cli.output import DEFAULT_DB, DbOption, say_unfinished, stderr
from attattr_batch.errors import UserError
from attattr_batch.files import write_file

if TYPE_CHECKING:
    from attattr_batch.store.database.connection import Store


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Examples:  attattr export sst2 --to exported/sst2   |   "
        "attattr export sst2 --format datasets --to exported/sst2-datasets   |   "
        "attattr export sst2 --format bertviz --example 3 --to example.json"
    )(export)
    app.command(epilog="Example:  attattr snapshot backup.duckdb")(snapshot)


def export(
    run: Annotated[str, typer.Argument(help="Name or id of the run.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the tables; for bertviz the JSON file.")],
    form: Annotated[
        Literal[Form, "bertviz"],
        typer.Option("--format", help="Parquet files, a folder for `datasets`, or JSON of one example."),
    ] = "parquet",
    example: Annotated[
        int | None, typer.Option(help="For bertviz, the example: 0-based row of the split.", min=0)
    ] = None,
    target: Annotated[
        RowTarget, typer.Option(help="For bertviz, the class whose attribution is shown.")
    ] = "gold",
    db: DbOption = DEFAULT_DB,
) -> None:
    """Take results to other tools: a run's tables with a README of the columns, or one example for BertViz.

    `datasets.load_from_disk` opens what `--format datasets` writes, with one split a table. The JSON of
    `--format bertviz` holds the arguments of `bertviz.head_view`, made of the stored edges: the strongest of
    each head. A folder holds one export: an earlier one there is replaced.
    """
    from attattr_batch.store.database.connection import Store
    from attattr_batch.store.reading.export import export_run

    if form == "bertviz":
        _export_example(Store(db), run, example, target, to)
        return
    if example is not None:
        raise UserError("only BertViz shows one example", got=f"--example {example}", hint="--format bertviz")
    made = export_run(Store(db), run, to, form)
    say_unfinished(Store(db), [run])
    stderr.print(f"wrote {len(made)} tables and documents to {to}; {to / 'README.md'} explains them")


def _export_example(store: Store, run: str, example: int | None, target: RowTarget, to: Path) -> None:
    from attattr_batch.report.stored_view import stored_head_view

    if example is None:
        raise UserError("BertViz shows one example", got="no --example", hint="for instance --example 0")
    with store.read() as connection:
        document = stored_head_view(connection, run, example, target)
    write_file(to, document)
    stderr.print(f"wrote {to}: arguments of bertviz.head_view, of the stored edges")


def snapshot(
    path: Annotated[Path, typer.Argument(help="The copy's file.")],
    db: DbOption = DEFAULT_DB,
) -> None:
    """Copy the store, consistently, even while a run writes."""
    from attattr_batch.store.database.connection import Store
    from attattr_batch.store.reading.snapshot import snapshot as copy

    copy(Store(db), path)
    stderr.print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
