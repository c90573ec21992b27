"""`attattr export`, `snapshot` and `merge`: taking results elsewhere, and putting parts of a run together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from attattr_batch.choices import ExportFormat, RowTarget
from attattr_batch.cli.logs import say, say_unfinished
from attattr_batch.cli.output import DEFAULT_DB, DbOption, RunArgument, open_store
from attattr_batch.errors import UserError
from attattr_batch.files import write_file


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="Folder for the tables; for bertviz, the JSON file.")],
    form: Annotated[
        Literal[ExportFormat, "bertviz"],
        typer.Option("--format", help="Parquet files, a folder for `datasets`, or JSON of one example."),
    ] = "parquet",
    example: Annotated[
        int | None, typer.Option(help="For bertviz: the example, a 0-based row of the split.", min=0)
    ] = None,
    target: Annotated[
        RowTarget, typer.Option(help="For bertviz: the class whose attribution is shown.")
    ] = "gold",
    db: DbOption = DEFAULT_DB,
) -> None:
    """Take results to other tools: a run's tables with a README of the columns, or one example for BertViz.

    `datasets.load_from_disk` opens what `--format datasets` writes; each table is a split. The JSON of
    `--format bertviz` holds the arguments of `bertviz.head_view`, made from the stored edges, which are the
    strongest of each head. A folder holds one export: a new one replaces it.

    Examples:
        attattr export sst2 --to exported/sst2
        attattr export sst2 --format datasets --to exported/sst2-datasets
        attattr export sst2 --format bertviz --example 3 --to example.json
    """
    from attattr_batch.store.reading.export import export_run

    store = open_store(db)
    if form == "bertviz":
        if example is None:
            raise UserError("BertViz shows one example", got="no --example", hint="for instance --example 0")
        from attattr_batch.analysis.examples import edge_matrices, find_example
        from attattr_batch.report.bertviz import stored_head_view
        from attattr_batch.store.writing.runs import resolve_run

        with store.read() as connection:
            found = find_example(connection, resolve_run(connection, run), example, target)
            document = stored_head_view(found, edge_matrices(connection, found))
        write_file(to, document)
        say(f"wrote {to}: arguments of bertviz.head_view, made from the stored edges")
        return
    if example is not None:
        raise UserError("only BertViz shows one example", got=f"--example {example}", hint="--format bertviz")
    made = export_run(store, run, to, form)
    say_unfinished(store, [run])
    say(f"wrote {len(made)} tables and documents to {to}; {to / 'README.md'} explains them")


def snapshot(
    path: Annotated[Path, typer.Argument(help="File for the copy.")],
    db: DbOption = DEFAULT_DB,
) -> None:
    """Copy the store, consistently, even while a run writes.

    Example:
        attattr snapshot backup.duckdb
    """
    from attattr_batch.store.reading.snapshot import snapshot as copy

    copy(open_store(db), path)
    say(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Stores with a part each (`attattr run --part K/N`).")],
    to: Annotated[Path, typer.Option(help="The store for the whole run; made if missing.")],
) -> None:
    """Put the parts of a run into one store, every example exactly once.

    The result is the run that `attattr run` without --part makes. A part that is given twice, or merged
    again later, changes nothing. Where parts are missing the run stays unfinished: merge them later, or give
    the command of the run without --part, which computes what is missing. Tables of jobs are not merged:
    build them for the whole run.

    Exit code 1 says that examples are missing or quarantined.

    Example:
        attattr merge part-0.duckdb part-1.duckdb part-2.duckdb --to whole.duckdb
    """
    from attattr_batch.store.writing.merge import find_parts, merge_parts

    for path in parts:
        if path.exists() and to.exists() and path.samefile(to):
            raise UserError("a part cannot be merged into its own store", got=path, hint="give another --to")
    found = find_parts([open_store(path) for path in parts])
    merged = merge_parts(found, open_store(to, create=True))
    for part, newly in zip(found, merged.newly_committed, strict=True):
        say(
            f"{part.store.path}, part {part.name}: {newly} examples merged"
            + ("" if newly else ", none is new")
        )
    say(f"run {merged.name} ({merged.run_id}): {merged.committed} of {merged.n_examples} examples in {to}")
    if merged.missing:
        missing = ", ".join(f"part {part} ({count} examples)" for part, count in merged.missing.items())
        say(
            f"missing: {missing}\n  next:    merge these too, or give the command of the run without --part:"
            f" with --db {to} it computes them"
        )
    if merged.quarantined:
        say(f"{merged.quarantined} examples quarantined: attattr status --db {to}")
    if merged.missing or merged.quarantined:
        raise typer.Exit(1)
