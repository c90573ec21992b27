"""`attattr status`, `runs`, `rm`, `sql`, `verify`, `migrate`: looking at a store, and tidying it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.cli.logs import say
from attattr_batch.cli.output import (
    DEFAULT_DB,
    DbOption,
    FormatOption,
    RunArgument,
    open_store,
    print_rows,
    stored_rows,
)

_SHOWN_QUARANTINED = 50

_RUNS = """SELECT run_id, name, task, split, model, n_layers, n_heads, n_examples, targets, quadrature, dtype,
    status, created_at
FROM runs ORDER BY run_id"""

_PASSES = "SELECT * EXCLUDE (pass_id, run_id) FROM progress ORDER BY pass_id"

_QUARANTINED = f"""SELECT run, pass, example_id, error, message, attempts
FROM quarantined ORDER BY pass_id, example_id LIMIT {_SHOWN_QUARANTINED + 1}"""


def status(db: DbOption = DEFAULT_DB, form: FormatOption = "table") -> None:
    """Show how far every pass is, and as a table also which examples are quarantined and why.

    JSON and CSV have the passes alone; `attattr sql 'select * from quarantined'` gives the rest as rows.

    Example:
        attattr status --db results.duckdb
    """
    passes, quarantined = stored_rows(db, _PASSES, _QUARANTINED)
    print_rows(*passes, form)
    if form != "table":
        return
    columns, rows = quarantined
    if rows:
        say("quarantined; `--retry-errors` of `run` and `jobs run` tries them again:")
        print_rows(columns, rows[:_SHOWN_QUARANTINED], form)
    if len(rows) > _SHOWN_QUARANTINED:
        rest = f"attattr sql 'select * from quarantined' --db {db}"
        say(f"only the first {_SHOWN_QUARANTINED} are shown: {rest}")


def runs(db: DbOption = DEFAULT_DB, form: FormatOption = "table") -> None:
    """List the runs of a store.

    Example:
        attattr runs --format json
    """
    (found,) = stored_rows(db, _RUNS)
    print_rows(*found, form)


def rm(
    run: RunArgument,
    db: DbOption = DEFAULT_DB,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run and everything computed from it.

    Example:
        attattr rm sst2-old
    """
    from attattr_batch.store.writing.runs import delete_run, resolve_run

    store = open_store(db)
    with store.read() as connection:
        found = resolve_run(connection, run)
    if not yes:
        typer.confirm(f"delete run {found.name} ({found.n_examples} examples)?", abort=True, err=True)
    with store.write() as connection:
        delete_run(connection, found.run_id)
    store.checkpoint()
    say(f"deleted {found.name}")


def migrate(db: DbOption = DEFAULT_DB) -> None:
    """Bring a store of an earlier release to this release's tables; `run` and `jobs run` do so too.

    Example:
        attattr snapshot before.duckdb && attattr migrate
    """
    from attattr_batch.store.database.migrate import SCHEMA_VERSION

    open_store(db).migrate()
    say(f"{db} has schema {SCHEMA_VERSION}")


def sql(
    query: Annotated[str, typer.Argument(help="One statement that reads; `-` reads it from stdin.")],
    db: DbOption = DEFAULT_DB,
    form: FormatOption = "table",
    limit: Annotated[int, typer.Option(help="Rows at most; 0 for all.", min=0)] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds until the query is stopped.", min=0.1)] = 600.0,
) -> None:
    """Ask the store in SQL, read-only. The data dictionary says which tables and columns there are.

    In JSON, a column name that came before gets a number (`n`, `n_1`), and NaN and infinity are null.

    Example:
        attattr sql "select * from head_summary where target = 'gold' order by attr_max desc limit 10"
    """
    from attattr_batch.store.reading import console

    text = typer.get_text_stream("stdin").read() if query == "-" else query
    result = console.query(db, text, max_rows=limit or None, timeout_s=timeout)
    print_rows(result.columns, result.rows, form)
    if result.truncated:
        say(f"only the first {limit} rows are shown (--limit)")


def verify(
    db: DbOption = DEFAULT_DB,
    folder: Annotated[
        Path | None, typer.Option("--audits-dir", help="Run the audits of this folder instead.")
    ] = None,
    form: FormatOption = "table",
) -> None:
    """Run every audit; exit code 1 if one finds offending rows.

    A table is followed by the first offending rows of each audit; JSON and CSV have their number alone.

    Example:
        attattr verify || echo 'do not trust this store'
    """
    from attattr_batch.analysis.audits import run_audits

    results, left_out = run_audits(open_store(db), folder)
    rows = [(one.name, "ok" if one.passed else "FAILED", one.n_rows, one.description) for one in results]
    print_rows(("audit", "result", "offending_rows", "description"), rows, form)
    if left_out:
        say(f"left out, about jobs that are not built (`attattr jobs run`): {', '.join(left_out)}")
    failed = [one for one in results if not one.passed]
    for one in failed if form == "table" else ():
        say(f"{one.name}: first {len(one.rows)} of {one.n_rows} offending rows")
        print_rows(one.columns, one.rows, form)
    if failed:
        raise typer.Exit(1)
