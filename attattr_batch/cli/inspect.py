"""`attattr status`, `runs`, `rm`, `sql`, `verify`, `migrate`: looking at a store, and tidying it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    Format,
    FormatOption,
    print_rows,
    stderr,
)

if TYPE_CHECKING:
    from attattr_batch.store.reading.console import QueryResult

_RUN_COLUMNS = (
    "run_id name task split model n_layers n_heads n_examples target quadrature dtype status created_at"
).split()

_SHOWN_FAILURES = 50


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog="Example:  attattr status --db results.duckdb")(status)
    app.command(epilog="Example:  attattr runs --format json")(runs)
    app.command("rm", epilog="Example:  attattr rm sst2-old")(remove)
    app.command(
        epilog="Example:  attattr sql \"select layer, head, attr_max from head_summary where target = 'gold' "
        'order by attr_max desc limit 10"'
    )(sql)
    app.command(epilog="Example:  attattr verify || echo 'do not trust this store'")(verify)
    app.command(epilog="Example:  attattr snapshot before.duckdb && attattr migrate")(migrate)


def status(db: DbOption = DEFAULT_DB, form: FormatOption = Format.table) -> None:
    """Show how far every pass is, and as a table also which examples failed and why.

    As JSON or CSV: the passes alone; `attattr sql 'select * from quarantined'` gives the failures as rows.
    """
    progress = _query(db, "SELECT * EXCLUDE (pass_id, run_id) FROM progress ORDER BY pass_id")
    print_rows(progress.columns, progress.rows, form)
    if form is not Format.table:
        return
    failed = _query(
        db,
        "SELECT run, pass, example_id, kind, message, attempts FROM quarantined ORDER BY pass_id, example_id",
    )
    if failed.rows:
        stderr.print(
            f"quarantined ({len(failed.rows)}); `--retry-errors` of run, or of jobs run, tries them again:"
        )
        print_rows(failed.columns, failed.rows[:_SHOWN_FAILURES], form)
    if len(failed.rows) > _SHOWN_FAILURES:
        stderr.print(
            f"only the first {_SHOWN_FAILURES} are shown: attattr sql 'select * from quarantined' --db {db}"
        )


def runs(db: DbOption = DEFAULT_DB, form: FormatOption = Format.table) -> None:
    """List the runs of a store."""
    found = _query(db, f"SELECT {', '.join(_RUN_COLUMNS)} FROM runs ORDER BY run_id")
    print_rows(found.columns, found.rows, form)


def remove(
    run: Annotated[str, typer.Argument(help="Name or id of the run.")],
    db: DbOption = DEFAULT_DB,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run and everything computed from it."""
    from attattr_batch.store.database.connection import Store
    from attattr_batch.store.writing.runs import delete_run, resolve_run

    store = Store(db)
    with store.read() as connection:
        found = resolve_run(connection, run)
    if not yes:
        typer.confirm(f"delete run {found.name} ({found.n_examples} examples)?", abort=True, err=True)
    with store.write() as connection:
        delete_run(connection, found.run_id)
    store.checkpoint()
    stderr.print(f"deleted {found.name}")


def migrate(db: DbOption = DEFAULT_DB) -> None:
    """Bring a store that an earlier release made to this release's tables; `run` and `jobs run` do so too."""
    from attattr_batch.store.database.connection import Store
    from attattr_batch.store.database.migrate import SCHEMA_VERSION

    Store(db).migrate()
    stderr.print(f"{db} has schema {SCHEMA_VERSION}")


def sql(
    query: Annotated[str, typer.Argument(help="One statement that reads; `-` reads it from stdin.")],
    db: DbOption = DEFAULT_DB,
    form: FormatOption = Format.table,
    limit: Annotated[int, typer.Option(help="Rows at most; 0 for all.", min=0)] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds until the query is stopped.", min=0.1)] = 600.0,
) -> None:
    """Ask the store in SQL, read-only. The data dictionary says which tables and columns there are.

    In JSON a column whose name came before gets a number (`n`, `n_1`), and NaN and infinity are null.
    """
    from attattr_batch.store.reading.console import query as ask

    text = typer.get_text_stream("stdin").read() if query == "-" else query
    result = ask(db, text, max_rows=limit or None, timeout_s=timeout)
    print_rows(result.columns, result.rows, form)
    if result.truncated:
        stderr.print(f"only the first {limit} rows are shown (--limit)")


def verify(
    db: DbOption = DEFAULT_DB,
    folder: Annotated[
        Path | None, typer.Option("--audits-dir", help="Run the audits of this folder instead.")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """Run every audit; exit code 1 if one finds offending rows.

    The first rows that offend are shown too, but as JSON or CSV only how many there are.
    """
    from attattr_batch.analysis.audits import run_audits
    from attattr_batch.store.database.connection import Store

    results, left_out = run_audits(Store(db), folder)
    rows = [(one.name, "ok" if one.passed else "FAILED", one.n_rows, one.description) for one in results]
    print_rows(("audit", "result", "offending_rows", "description"), rows, form)
    if left_out:
        stderr.print(f"left out, about jobs that are not built (`attattr jobs run`): {', '.join(left_out)}")
    failed = [one for one in results if not one.passed]
    for one in failed if form is Format.table else ():
        stderr.print(f"{one.name}: first {len(one.rows)} of {one.n_rows} offending rows")
        print_rows(one.columns, one.rows, form)
    if failed:
        raise typer.Exit(1)


def _query(db: Path, text: str) -> QueryResult:
    from attattr_batch.store.reading.console import query as ask

    return ask(db, text, max_rows=None)
