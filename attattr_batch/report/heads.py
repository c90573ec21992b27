"""Charts of heads: importance by layer and head, and how alike runs are."""

from __future__ import annotations

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

from attattr_batch.markup import BLUE, ORANGE
from attattr_batch.report.theme import (
    AMOUNT,
    CRITERION_COLOURS,
    GREY,
    IMPORTANCE,
    Chart,
    inline,
    layer_axis,
    unique,
)

_MAP_PX_PER_HEAD = 16
_MAP_PX = (130, 240)


def head_maps(rows: pa.Table) -> Chart:
    """One layer x head map for each run and criterion, each with its own scale: their units differ.

    Args:
        rows: Columns `run`, `criterion`, `layer`, `head`, `importance`, `n`, `ci_low`, `ci_high`.
    """
    criteria = [name for name in CRITERION_COLOURS if name in unique(rows, "criterion")]
    maps = [
        head_map(
            rows.filter((pc.field("run") == run) & (pc.field("criterion") == criterion)),
            f"{run}: {criterion}",
        )
        for run in unique(rows, "run")
        for criterion in criteria
    ]
    return alt.concat(*maps, columns=len(criteria), spacing=14).resolve_scale(color="independent")


def head_map(rows: pa.Table, title: str) -> alt.Chart:
    """Layer x head map of one run and criterion; columns as for `head_maps`."""
    n_heads, n_layers = (1 + max(rows[name].to_pylist(), default=0) for name in ("head", "layer"))
    value = IMPORTANCE[next(iter(rows["criterion"].to_pylist()), "attattr")]
    width, height = (
        min(max(size * _MAP_PX_PER_HEAD, _MAP_PX[0]), _MAP_PX[1]) for size in (n_heads, n_layers)
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
    return (
        alt.Chart(inline(rows), title=title)
        .mark_rect()
        .encode(
            x=alt.X("head:O", title="head", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=layer_axis(),
            color=alt.Color("importance:Q", title=value, scale=alt.Scale(scheme=AMOUNT), legend=legend),
            tooltip=[
                "layer:O",
                "head:O",
                alt.Tooltip("importance:Q", title=value, format=".4g"),
                alt.Tooltip("ci_low:Q", format=".4g"),
                alt.Tooltip("ci_high:Q", format=".4g"),
                alt.Tooltip("n:Q", title="examples"),
            ],
        )
        .properties(width=width, height=height)
    )


def universality_matrix(rows: pa.Table) -> Chart:
    """Run x run matrix of Pearson's correlation, one for each criterion.

    Args:
        rows: Columns `run_a`, `run_b`, `criterion`, `pearson`, `spearman`, `topk_jaccard`, `n_heads`,
            `ci_low`, `ci_high`.
    """
    runs, criteria = unique(rows, "run_a"), unique(rows, "criterion")
    order = [name for name in CRITERION_COLOURS if name in criteria]
    base = alt.Chart().encode(
        x=alt.X("run_b:N", title="run", sort=runs, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("run_a:N", title="run", sort=runs),
    )
    # Blue for alike, orange for opposite, white between: readable without telling red from green.
    scale = alt.Scale(domain=[-1, 0, 1], range=[ORANGE, "#f7f7f7", BLUE])
    cells = base.mark_rect().encode(
        color=alt.Color("pearson:Q", title="Pearson's r over heads", scale=scale),
        tooltip=[
            "run_a:N",
            "run_b:N",
            alt.Tooltip("pearson:Q", format=".3f"),
            alt.Tooltip("ci_low:Q", title="95 % from", format=".3f"),
            alt.Tooltip("ci_high:Q", title="to", format=".3f"),
            alt.Tooltip("spearman:Q", format=".3f"),
            alt.Tooltip("topk_jaccard:Q", title="top-k overlap", format=".2f"),
            alt.Tooltip("n_heads:Q", title="heads"),
        ],
    )
    dark = "abs(datum.pearson) > 0.6"
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("pearson:Q", format=".2f"),
        color=alt.condition(dark, alt.value("#ffffff"), alt.value("#1b1b1f")),
    )
    side = max(120, 38 * len(runs))
    return (
        alt.LayerChart(layer=[cells, numbers], data=inline(rows))
        .properties(width=side, height=side)
        .facet(facet=alt.Facet("criterion:N", title=None, sort=order), columns=2)
    )


def universality_scatter(rows: pa.Table) -> Chart:
    """Importance of every head in one run against another: a panel for each pair, coloured by layer.

    Args:
        rows: Columns `criterion` (one alone), `run_a`, `run_b`, `layer`, `head`, `importance_a`,
            `importance_b`, `pearson`.
    """
    value = IMPORTANCE[next(iter(rows["criterion"].to_pylist()), "attattr")]
    pairs = list(dict.fromkeys(zip(*(rows[name].to_pylist() for name in ("run_a", "run_b")), strict=True)))
    panels = [_pair_panel(rows, run_a, run_b) for run_a, run_b in pairs]
    return alt.concat(*panels, columns=min(3, len(panels)), spacing=18, title=f"{value}, a point a head")


def _pair_panel(rows: pa.Table, run_a: str, run_b: str) -> alt.Chart:
    part = rows.filter((pc.field("run_a") == run_a) & (pc.field("run_b") == run_b))
    pearson = part["pearson"][0].as_py()
    title = "r undefined: all heads alike" if pearson is None else f"Pearson's r = {pearson:.2f}"
    return (
        alt.Chart(inline(part), title=alt.TitleParams(title, fontWeight="normal"))
        .mark_circle(size=55, opacity=0.85, stroke=GREY, strokeWidth=0.5)
        .encode(
            x=alt.X(
                "importance_a:Q", title=f"in {run_a}", axis=alt.Axis(tickCount=4), scale=alt.Scale(padding=8)
            ),
            y=alt.Y(
                "importance_b:Q", title=f"in {run_b}", axis=alt.Axis(tickCount=4), scale=alt.Scale(padding=8)
            ),
            color=alt.Color(
                "layer:Q", title="layer", scale=alt.Scale(scheme=AMOUNT), legend=alt.Legend(tickMinStep=1)
            ),
            tooltip=[
                "layer:O",
                "head:O",
                alt.Tooltip("importance_a:Q", title=run_a, format=".4g"),
                alt.Tooltip("importance_b:Q", title=run_b, format=".4g"),
            ],
        )
        .properties(width=180, height=180)
    )


def head_distribution(rows: pa.Table, title: str) -> alt.Chart:
    """Histogram of one head's largest attribution over examples, by the class predicted.

    Args:
        rows: Columns `low` and `high` (ends of the bin), `predicted` (name of the class), `n` (examples).
        title: Title of the chart.
    """
    colours = alt.Scale(range=[colour for name, colour in CRITERION_COLOURS.items() if name != "random"])
    return (
        alt.Chart(inline(rows), title=title)
        .mark_bar()
        .encode(
            x=alt.X("low:Q", bin="binned", title="max Attr of the head (probability)"),
            x2="high:Q",
            y=alt.Y("n:Q", title="examples", stack="zero"),
            color=alt.Color("predicted:N", title="predicted class", scale=colours),
            tooltip=[
                alt.Tooltip("low:Q", title="from", format=".4g"),
                alt.Tooltip("high:Q", title="to", format=".4g"),
                "predicted:N",
                alt.Tooltip("n:Q", title="examples"),
            ],
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
    axis = alt.Axis(labelAngle=-60, labelLimit=130, labelOverlap=False)
    return (
        alt.Chart(alt.Data(values=cells), title=title)
        .mark_rect()
        .encode(
            x=alt.X("key:N", title="key (attended)", scale=alt.Scale(domain=names), axis=axis),
            y=alt.Y(
                "query:N",
                title="query (attending)",
                scale=alt.Scale(domain=names),
                axis=alt.Axis(labelOverlap=False),
            ),
            color=alt.Color("attr:Q", title="attribution", scale=alt.Scale(scheme=AMOUNT)),
            tooltip=["query:N", "key:N", alt.Tooltip("attr:Q", title="attribution", format=".4g")],
        )
        .properties(width=alt.Step(17), height=alt.Step(17))
    )
