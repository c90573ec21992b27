"""`attattr plot` and `report`: one figure, or all of them on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.choices import Theme
from attattr_batch.cli.logs import say, say_unfinished
from attattr_batch.cli.output import DEFAULT_DB, DbOption, open_store


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            help="importance, heads, universality, scatter, pruning, area, faithfulness, stability,"
            " effectiveness, distance, triggers, completeness or drift."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture (.svg, .png) or Vega-Lite (.json).")
    ],
    runs: Annotated[
        list[str] | None, typer.Option("--run", help="Name or id of a run (repeatable). Default: every run.")
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="Criterion of importance, for figures that show one at a time.")
    ] = "attattr",
    theme: Annotated[Theme, typer.Option(help="For a light or a dark page.")] = "light",
    db: DbOption = DEFAULT_DB,
) -> None:
    """Draw one figure of the results, sized for a paper.

    Examples:
        attattr plot universality -o universality.svg
        attattr plot pruning --run sst2 --run rte -o pruning.png
        attattr plot scatter --criterion taylor --theme dark -o scatter.svg
    """
    from attattr_batch.report.figures import find_figure
    from attattr_batch.report.saving import save_chart
    from attattr_batch.results import Results

    chart = Results(db).plot(kind, *(runs or ()), criterion=criterion, theme=theme)
    save_chart(chart, output)
    say(f"wrote {output}: {find_figure(kind).query.description}")


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    db: DbOption = DEFAULT_DB,
) -> None:
    """Write one self-contained HTML file about every run: figures, tables, and how to reproduce them.

    Example:
        attattr report -o report.html
    """
    from attattr_batch.report.html import write_report

    store = open_store(db)
    path = write_report(store, output)
    say_unfinished(store)
    say(f"report: {path.resolve()}")
