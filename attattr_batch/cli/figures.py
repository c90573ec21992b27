"""`attattr plot` and `report`: results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.choices import Theme
from attattr_batch.cli.output import DEFAULT_DB, DbOption, say_unfinished, stderr


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Examples:  attattr plot universality -o universality.svg   |   "
        "attattr plot pruning --run sst2 --run rte -o pruning.png   |   "
        "attattr plot scatter --criterion taylor --theme dark -o scatter.svg"
    )(plot)
    app.command(epilog="Example:  attattr report -o report.html")(report)


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            help="heads, importance, universality, scatter, pruning, area, effectiveness, distance, triggers,"
            " completeness, nodes or drift."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture (.svg, .png) or Vega-Lite (.json).")
    ],
    runs: Annotated[
        list[str] | None, typer.Option("--run", help="Name or id of a run (repeatable); none: every run.")
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="Criterion of importance, in figures that show one at a time.")
    ] = "attattr",
    theme: Annotated[Theme, typer.Option(help="For a light or a dark page.")] = "light",
    db: DbOption = DEFAULT_DB,
) -> None:
    """Draw one figure of the results, sized for a paper."""
    from attattr_batch.report.figures import chosen_runs, figure_rows, find_figure
    from attattr_batch.report.saving import save_chart
    from attattr_batch.report.theme import themed
    from attattr_batch.store.database.connection import Store

    figure = find_figure(kind)
    with Store(db).read() as connection:
        shown = chosen_runs(connection, runs or ())
        rows = figure_rows(connection, figure, shown, criterion=criterion, path=db)
    save_chart(themed(figure.draw(rows), theme), output)
    stderr.print(f"wrote {output}: {figure.query.description}")


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    db: DbOption = DEFAULT_DB,
) -> None:
    """Write one self-contained HTML file about every run: figures, tables, and how to reproduce them."""
    from attattr_batch.report.html import write_report
    from attattr_batch.store.database.connection import Store

    path = write_report(Store(db), output)
    say_unfinished(Store(db))
    stderr.print(f"report: {path.resolve()}", soft_wrap=True)
