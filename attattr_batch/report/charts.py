"""Charts as Altair objects; each takes rows of a summary view and nothing else."""

from __future__ import annotations

from typing import Final

import altair as alt
import pyarrow as pa

# Readable in print and for the colour-blind: one hue, light to dark, for amounts.
_AMOUNT: Final = "viridis"


def head_map(summary: pa.Table, *, value: str = "attr_max", title: str = "") -> alt.Chart:
    """Layer x head map of one statistic.

    Args:
        summary: Rows of `head_summary` for one run and target.
        value: Column to show.
        title: Title of the chart.
    """
    return (
        alt.Chart(summary.select(["layer", "head", value]).to_pandas(), title=title)
        .mark_rect()
        .encode(
            x=alt.X("head:O", title="head (0-based)"),
            y=alt.Y("layer:O", title="layer (0-based)", sort="descending"),
            color=alt.Color(f"{value}:Q", title=_TITLES[value], scale=alt.Scale(scheme=_AMOUNT)),
            tooltip=["layer:O", "head:O", alt.Tooltip(f"{value}:Q", format=".4g")],
        )
        .properties(width=260, height=180)
    )


def nodes_by_layer(layers: pa.Table, *, title: str = "") -> alt.Chart:
    """How many quadrature nodes the rows of each layer needed.

    Args:
        layers: Columns `layer`, `nodes`, `rows`.
        title: Title of the chart.
    """
    return (
        alt.Chart(layers.to_pandas(), title=title)
        .mark_bar()
        .encode(
            x=alt.X("rows:Q", title="share of rows", stack="normalize", axis=alt.Axis(format="%")),
            y=alt.Y("layer:O", title="layer (0-based)", sort="descending"),
            color=alt.Color("nodes:O", title="nodes", scale=alt.Scale(scheme=_AMOUNT)),
            order="nodes:O",
        )
        .properties(width=260, height=180)
    )


_TITLES = {
    "attr_max": "mean of max Attr",
    "attr_sum": "mean sum of Attr",
    "attn_max": "mean of max A",
    "attn_confidence": "mean confidence",
    "taylor": "mean Taylor score",
}
