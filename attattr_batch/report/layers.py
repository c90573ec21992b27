"""Charts by layer: completeness, quadrature nodes, distance of interacting tokens."""

from __future__ import annotations

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

from attattr_batch.markup import BLUE, ORANGE
from attattr_batch.report.theme import AMOUNT, Chart, by_run, inline, layer_axis, unique

_PANEL = {"width": 250, "height": alt.Step(22)}
_ROW_PX = 20


def completeness(rows: pa.Table) -> Chart:
    """Completeness error by layer beside the tolerance, a panel for each run.

    Args:
        rows: Columns `run`, `layer`, `n`, `low`, `median`, `high`, `worst`, `tolerance`
            (null for fixed rules).
    """
    y = layer_axis()
    tooltip: list[str | alt.Tooltip] = [
        "layer:O",
        *(alt.Tooltip(f"{name}:Q", format=".2e") for name in ("median", "worst", "tolerance")),
        alt.Tooltip("n:Q", title="rows"),
    ]
    base = alt.Chart().encode(y=y, tooltip=tooltip)
    spread = base.mark_rule(strokeWidth=5, opacity=0.5, color=BLUE).encode(x=_error("low"), x2="high:Q")
    middle = base.mark_tick(color=BLUE, thickness=3, size=15, opacity=1).encode(x=_error("median"))
    worst = base.mark_circle(color=ORANGE, size=40, opacity=1).encode(x=_error("worst"))
    limit = alt.Chart().mark_rule(strokeDash=[4, 3], color=ORANGE).encode(x=_error("max(tolerance)"))
    layers = alt.LayerChart(layer=[spread, middle, worst, limit], data=inline(rows)).properties(**_PANEL)
    return layers.facet(facet=by_run(rows), columns=2)


def _error(column: str) -> alt.X:
    title = "|completeness error| (probability, log scale)"
    axis = alt.Axis(format=".0e", tickCount=5)
    return alt.X(f"{column}:Q", title=title, scale=alt.Scale(type="log"), axis=axis)


def nodes_by_layer(rows: pa.Table) -> Chart:
    """Share of rows by the number of quadrature nodes they needed, a panel for each run.

    Args:
        rows: Columns `run`, `layer`, `nodes`, `n`.
    """
    return (
        alt.Chart(inline(rows))
        .mark_bar()
        .encode(
            x=alt.X("n:Q", title="rows", stack="normalize", axis=alt.Axis(format="%")),
            y=layer_axis(),
            color=alt.Color("nodes:O", title="nodes", scale=alt.Scale(scheme=AMOUNT)),
            order="nodes:O",
            tooltip=["layer:O", "nodes:O", alt.Tooltip("n:Q", title="rows")],
        )
        .properties(**_PANEL)
        .facet(facet=by_run(rows), columns=2)
    )


def distance_map(rows: pa.Table) -> Chart:
    """Share of a layer's tree edges by distance, a row for each run and a column for each kind of link.

    Args:
        rows: Columns `run`, `layer`, `distance`, `link`, `n`, `share`.
    """
    links = [link for link in _LINKS if link in unique(rows, "link")]
    height = _ROW_PX * len(unique(rows, "layer"))
    largest = max(rows["share"].to_pylist())
    # Panels of our own, not facets: Vega-Lite mislabels the columns of a grid in which some are empty.
    panels = [
        _distance_panel(_part(rows, run, link), f"{run}: {link}", height, largest)
        for run in unique(rows, "run")
        for link in links
    ]
    return alt.concat(*panels, columns=len(links), spacing=14).resolve_scale(x="shared", y="shared")


_LINKS = ("within a text", "across the texts", "to a special token")


def _part(rows: pa.Table, run: str, link: str) -> pa.Table:
    return rows.filter((pc.field("run") == run) & (pc.field("link") == link))


def _distance_panel(rows: pa.Table, title: str, height: int, largest: float) -> alt.Chart:
    return (
        alt.Chart(inline(rows), title=title)
        .mark_rect()
        .encode(
            x=alt.X(
                "distance:O",
                title="distance |i - j| (tokens)",
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=layer_axis(),
            color=alt.Color(
                "share:Q",
                title=["share of the", "layer's edges"],
                scale=alt.Scale(scheme=AMOUNT, domain=[0, largest]),
                legend=alt.Legend(format="%", tickCount=4),
            ),
            tooltip=[
                "layer:O",
                "distance:Q",
                alt.Tooltip("share:Q", format=".1%"),
                alt.Tooltip("n:Q", title="edges"),
            ],
        )
        .properties(width=230, height=height, view=alt.ViewConfig(fill=_NONE))
    )


# The scale's colour of zero: where there are no edges.
_NONE = "#440154"
