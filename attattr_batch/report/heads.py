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
            tooltip=tooltip(rows.drop_columns(["run", "criterion"])),
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
        tooltip=tooltip(rows),
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
        rows: Columns `panel` (title: the pair and its correlation), `criterion` (one alone), `layer`, `head`,
            `importance_a`, `importance_b`.
    """
    unit = IMPORTANCE[rows["criterion"][0].as_py()]
    axis, scale = alt.Axis(tickCount=4), alt.Scale(padding=8)
    layers, legend = alt.Scale(scheme=AMOUNT), alt.Legend(tickMinStep=1)
    points = alt.Chart().mark_circle(size=55, opacity=0.85, stroke=GREY, strokeWidth=0.5)
    points = points.encode(
        x=alt.X("importance_a:Q", title=f"{unit}, first run", axis=axis, scale=scale),
        y=alt.Y("importance_b:Q", title=f"{unit}, second run", axis=axis, scale=scale),
        color=alt.Color("layer:Q", title="layer", scale=layers, legend=legend),
        tooltip=tooltip(rows.drop_columns(["panel", "criterion"])),
    )
    return panels(rows, [points], "panel", width=220, height=220).resolve_scale(
        x="independent", y="independent"
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
            tooltip=tooltip(rows),
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
    query, key = ([names[position] for position in rows[end].to_pylist()] for end in ("query_pos", "key_pos"))
    cells = pa.table({"query": query, "key": key, "attribution": rows["attr"]})
    places = alt.Scale(domain=names)
    below = alt.Axis(labelAngle=-60, labelLimit=130, labelOverlap=False)
    left = alt.Axis(labelOverlap=False)
    return (
        alt.Chart(inline(cells), title=title)
        .mark_rect()
        .encode(
            x=alt.X("key:N", title="key (attended)", scale=places, axis=below),
            y=alt.Y("query:N", title="query (attending)", scale=places, axis=left),
            color=alt.Color("attribution:Q", title="attribution", scale=alt.Scale(scheme=AMOUNT)),
            tooltip=tooltip(cells),
        )
        .properties(width=alt.Step(17), height=alt.Step(17))
    )
