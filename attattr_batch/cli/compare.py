"""`attattr tree` and `diff`: the tree of one example, and what differs between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attattr_batch.choices import RowFormat, RowTarget, Units, Variant
from attattr_batch.cli.logs import say, say_unfinished
from attattr_batch.cli.output import DEFAULT_DB, DbOption, FormatOption, RunArgument, open_store, print_rows
from attattr_batch.files import write_file

if TYPE_CHECKING:
    from attattr_batch.analysis.trees import Tree


def tree(
    run: RunArgument,
    example: Annotated[int, typer.Argument(help="Example: 0-based row of the split.")],
    variant: Annotated[
        Variant,
        typer.Option(help="As in the authors' code, or by the same sweep started in the last layer."),
    ] = "released",
    tau: Annotated[float, typer.Option(help="Threshold, as a share of each layer's largest entry.")] = 0.4,
    target: Annotated[RowTarget, typer.Option(help="Class whose attribution is drawn.")] = "gold",
    units: Annotated[Units, typer.Option(help="Nodes: tokens, or whole words.")] = "pieces",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Picture (.svg, .png) or data (.json).")
    ] = None,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = "table",
) -> None:
    """Draw the attribution tree of one example, or print its edges.

    Examples:
        attattr tree sst2 0
        attattr tree sst2 0 --variant greedy -o tree.svg
        attattr tree sst2 0 --units words
    """
    from attattr_batch.analysis.trees import attribution_tree

    grown = attribution_tree(
        open_store(db), run, example, variant=variant, tau=tau, target=target, units=units
    )
    if output is None:
        _print_tree(grown, form)
        return
    from attattr_batch.report.saving import save_chart
    from attattr_batch.report.tree import tree_chart

    if output.suffix == ".json":
        write_file(output, grown.to_json())
    else:
        save_chart(tree_chart(grown), output)
    count = "1 edge" if len(grown.edges) == 1 else f"{len(grown.edges)} edges"
    say(f"wrote {output}: {count} below {grown.tokens[grown.top]!r}")


def _print_tree(grown: Tree, form: RowFormat) -> None:
    tokens = grown.tokens
    rows = [
        (one.layer, tokens[one.query_pos], tokens[one.key_pos], one.query_pos, one.key_pos, one.attr)
        for one in grown.edges
    ]
    print_rows(("layer", "parent", "child", "query_pos", "key_pos", "attr"), rows, form)
    if form == "table":
        about = f"top node {tokens[grown.top]!r}; gold {grown.gold}, predicted {grown.predicted}"
        say(f"{about}; `-o tree.svg` draws it")
        if grown.capped:
            say("the tree may lack edges: a layer has more than the run's edge_cap above the threshold")


def diff(
    run_a: RunArgument,
    run_b: RunArgument,
    top: Annotated[int, typer.Option(help="Heads to list: those that changed most.", min=0)] = 10,
    db: DbOption = DEFAULT_DB,
    form: FormatOption = "table",
) -> None:
    """Show what changed between two runs: settings, accuracy, importance of heads.

    Heads are compared by the attributions of a class that both runs have: gold, or else predicted.

    Example:
        attattr diff sst2-old sst2-new
    """
    from attattr_batch.analysis.diff import diff_runs, why_no_heads

    store = open_store(db)
    rows = diff_runs(store, run_a, run_b, top=top)
    print_rows(rows.column_names, [list(row.values()) for row in rows.to_pylist()], form)
    if "correlation" not in rows["part"].to_pylist():
        say(why_no_heads(store, run_a, run_b))
    say_unfinished(store, [run_a, run_b])
