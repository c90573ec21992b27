"""Charts by layer: completeness, distance of interacting tokens."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

from attattr_batch.report.palette import BLUE, ORANGE
from attattr_batch.report.theme import AMOUNT, Chart, inline, layer_axis, panels, parts, tooltip, unique

_WIDTH = 250
_ROW = alt.Step(22)
_DISTANCE_ROW_PX = 20
_NO_EDGES = "#440154"  # the scale's colour of zero


def completeness(rows: pa.Table) -> Chart:
    """Completeness error by layer beside the tolerance, a panel for each run.

    Args:
        rows: Columns `run`, `layer`, `n`, `low`, `median`, `high`, `worst`, `tolerance`
            (null for fixed rules).
    """
    base = alt.Chart().encode(y=layer_axis(), tooltip=tooltip(rows))
    spread = base.mark_rule(strokeWidth=5, opacity=0.5, color=BLUE).encode(x=_error("low"), x2="high:Q")
    middle = base.mark_tick(color=BLUE, thickness=3, size=15, opacity=1).encode(x=_error("median"))
    worst = base.mark_circle(color=ORANGE, size=40, opacity=1).encode(x=_error("worst"))
    limit = alt.Chart().mark_rule(strokeDash=[4, 3], color=ORANGE).encode(x=_error("max(tolerance)"))
    return panels(rows, [spread, middle, worst, limit], width=_WIDTH, height=_ROW)


def _error(column: str) -> alt.X:
    title = "|completeness error| (probability, log scale)"
    axis = alt.Axis(format=".0e", tickCount=5)
    return alt.X(f"{column}:Q", title=title, scale=alt.Scale(type="log"), axis=axis)


def distance_map(rows: pa.Table) -> Chart:
    """Share of a layer's tree edges by distance, a row for each run and a column for each kind of link.

    Args:
        rows: Columns `run`, `layer`, `distance`, `link`, `n`, `share`; kinds of link in the order in which
            they are to stand.
    """
    height = _DISTANCE_ROW_PX * len(unique(rows, "layer"))
    largest = max(rows["share"].to_pylist())
    # Panels of our own, not facets: Vega-Lite mislabels the columns of a grid in which some are empty.
    drawn = [
        _distance_panel(part, f"{run}: {link}", height, largest)
        for run, link, part in parts(rows, "run", "link")
    ]
    columns = len(unique(rows, "link"))
    return alt.concat(*drawn, columns=columns, spacing=14).resolve_scale(x="shared", y="shared")


def _distance_panel(rows: pa.Table, title: str, height: int, largest: float) -> alt.Chart:
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    scale = alt.Scale(scheme=AMOUNT, domain=[0, largest])
    share, legend = ["share of the", "layer's edges"], alt.Legend(format="%", tickCount=4)
    return (
        alt.Chart(inline(rows), title=title)
        .mark_rect()
        .encode(
            x=alt.X("distance:O", title="distance |i - j| (tokens)", axis=axis),
            y=layer_axis(),
            color=alt.Color("share:Q", title=share, scale=scale, legend=legend),
            tooltip=tooltip(rows),
        )
        .properties(width=230, height=height, view=alt.ViewConfig(fill=_NO_EDGES))
    )
