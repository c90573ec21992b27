"""Charts of heads: importance by layer and head, how alike runs are, one head, the edges of one example."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

from attattr_batch.report.palette import BLUE, CRITERION_COLOURS, GREY, IMPORTANCE, ORANGE
from attattr_batch.report.theme import (
    AMOUNT,
    Chart,
    by_criterion,
    inline,
    layer_axis,
    panels,
    parts,
    tooltip,
    unique,
)

_MAP_PX_PER_HEAD = 16
_MAP_PX = (130, 240)


def head_maps(rows: pa.Table) -> Chart:
    """One layer x head map for each run and criterion, each with its own scale: their units differ.

    Args:
        rows: Columns `run`, `criterion`, `layer`, `head`, `importance`, `n`, `ci_low`, `ci_high`.
    """
    rows = by_criterion(rows)
    maps = [head_map(part, run, criterion) for run, criterion, part in parts(rows, "run", "criterion")]
    columns = len(unique(rows, "criterion"))
    return alt.concat(*maps, columns=columns, spacing=14).resolve_scale(color="independent")


def head_map(rows: pa.Table, run: str, criterion: str) -> alt.Chart:
    """Layer x head map of one run and criterion; columns as for `head_maps`."""
    width, height = (
        min(max(_MAP_PX_PER_HEAD * (1 + max(rows[name].to_pylist(), default=0)), _MAP_PX[0]), _MAP_PX[1])
        for name in ("head", "layer")
    )
    legend = alt.Legend(
        orient="bottom",
        direction="horizontal",
        gradientLength=width,
        gradientThickness=9,
        tickCount=3,
        labelOverlap="greedy",  # few heads make a short scale
        labelSeparation=4,
    )
    unit, scale = IMPORTANCE[criterion], alt.Scale(scheme=AMOUNT)
    return (
        alt.Chart(inline(rows), title=f"{run}: {criterion}")
        .mark_rect()
        .encode(
            x=alt.X("head:O", title="head", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=layer_axis(),
            color=alt.Color("importance:Q", title=unit, scale=scale, legend=legend),
            tooltip=tooltip(
                layer="",
                head="",
                importance=(".4g", unit),
                ci_low=".4g",
                ci_high=".4g",
                n=("", "examples"),
            ),
        )
        .properties(width=width, height=height)
    )


def universality_matrix(rows: pa.Table) -> Chart:
    """Run x run matrix of Pearson's correlation, one for each criterion.

    Args:
        rows: Columns `run_a`, `run_b`, `criterion`, `pearson`, `spearman`, `topk_jaccard`, `n_heads`,
            `ci_low`, `ci_high`.
    """
    runs = unique(rows, "run_a")
    base = alt.Chart().encode(
        x=alt.X("run_b:N", title="run", sort=runs, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("run_a:N", title="run", sort=runs),
    )
    # Blue for alike, orange for opposite, white between: readable without telling red from green.
    scale = alt.Scale(domain=[-1, 0, 1], range=[ORANGE, "#f7f7f7", BLUE])
    cells = base.mark_rect().encode(
        color=alt.Color("pearson:Q", title="Pearson's r over heads", scale=scale),
        tooltip=tooltip(
            run_a="",
            run_b="",
            **dict.fromkeys(("pearson", "ci_low", "ci_high", "spearman"), ".3f"),
            topk_jaccard=(".2f", "top-k overlap"),
            n_heads=("", "heads"),
        ),
    )
    light_on_dark = alt.condition("abs(datum.pearson) > 0.6", alt.value("#ffffff"), alt.value("#1b1b1f"))
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("pearson:Q", format=".2f"), color=light_on_dark
    )
    side = max(120, 38 * len(runs))
    return panels(by_criterion(rows), [cells, numbers], "criterion", width=side, height=side)


def universality_scatter(rows: pa.Table) -> Chart:
    """Importance of every head in one run against another: a panel for each pair, coloured by layer.

    Args:
        rows: Columns `criterion` (one alone), `run_a`, `run_b`, `layer`, `head`, `importance_a`,
            `importance_b`, `pearson`.
    """
    unit = IMPORTANCE[rows["criterion"][0].as_py()]
    drawn = [
        _pair_panel(part, run_a, run_b)
        for run_a, run_b, part in parts(rows, "run_a", "run_b")
        if part.num_rows  # of two runs one is always the first
    ]
    return alt.concat(*drawn, columns=min(3, len(drawn)), spacing=18, title=f"{unit}, a point a head")


def _pair_panel(rows: pa.Table, run_a: str, run_b: str) -> alt.Chart:
    pearson = rows["pearson"][0].as_py()
    title = "r undefined: all heads alike" if pearson is None else f"Pearson's r = {pearson:.2f}"
    axis, scale = alt.Axis(tickCount=4), alt.Scale(padding=8)
    layers = alt.Scale(scheme=AMOUNT)
    return (
        alt.Chart(inline(rows), title=alt.TitleParams(title, fontWeight="normal"))
        .mark_circle(size=55, opacity=0.85, stroke=GREY, strokeWidth=0.5)
        .encode(
            x=alt.X("importance_a:Q", title=f"in {run_a}", axis=axis, scale=scale),
            y=alt.Y("importance_b:Q", title=f"in {run_b}", axis=axis, scale=scale),
            color=alt.Color("layer:Q", title="layer", scale=layers, legend=alt.Legend(tickMinStep=1)),
            tooltip=tooltip(layer="", head="", importance_a=(".4g", run_a), importance_b=(".4g", run_b)),
        )
        .properties(width=180, height=180)
    )


def head_distribution(rows: pa.Table) -> alt.Chart:
    """Histogram of one head's largest attribution over examples, by the class predicted.

    Args:
        rows: Columns `low` and `high` (ends of the bin), `predicted` (name of the class), `n` (examples).
    """
    colours = alt.Scale(range=[colour for name, colour in CRITERION_COLOURS.items() if name != "random"])
    return (
        alt.Chart(inline(rows), title="Largest attribution over examples")
        .mark_bar()
        .encode(
            x=alt.X("low:Q", bin="binned", title="max Attr of the head (probability)"),
            x2="high:Q",
            y=alt.Y("n:Q", title="examples", stack="zero"),
            color=alt.Color("predicted:N", title="predicted class", scale=colours),
            tooltip=tooltip(low=(".4g", "from"), high=(".4g", "to"), predicted="", n=("", "examples")),
        )
        .properties(width=360, height=200)
    )


def edge_map(rows: pa.Table, tokens: list[str], title: str) -> alt.Chart:
    """Query x key map of one example's stored edges.

    Args:
        rows: Columns `query_pos`, `key_pos`, `attr`.
        tokens: The example's tokens, by position.
        title: Title of the chart.
    """
    # Positions before the tokens: a token that comes twice has two rows.
    names = [f"{position} {token}" for position, token in enumerate(tokens)]
    cells = [
        {"query": names[row["query_pos"]], "key": names[row["key_pos"]], "attr": row["attr"]}
        for row in rows.to_pylist()
    ]
    places = alt.Scale(domain=names)
    below = alt.Axis(labelAngle=-60, labelLimit=130, labelOverlap=False)
    left = alt.Axis(labelOverlap=False)
    return (
        alt.Chart(alt.Data(values=cells), title=title)
        .mark_rect()
        .encode(
            x=alt.X("key:N", title="key (attended)", scale=places, axis=below),
            y=alt.Y("query:N", title="query (attending)", scale=places, axis=left),
            color=alt.Color("attr:Q", title="attribution", scale=alt.Scale(scheme=AMOUNT)),
            tooltip=tooltip(query="", key="", attr=(".4g", "attribution")),
        )
        .properties(width=alt.Step(17), height=alt.Step(17))
    )
