"""How charts look: fonts and backgrounds for light and dark pages, and the parts that charts share.

A chart carries no look of its own but the colours of criteria; `themed` gives a finished chart its fonts and
background. The dashboard leaves that to Streamlit, which knows whether the page is dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc

from attattr_batch.choices import Theme
from attattr_batch.report.palette import CRITERION_COLOURS

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart

AMOUNT: Final = "viridis"
"""Colour scheme of quantities."""

_INK: Final = {"light": ("#1b1b1f", "#d8d8e0", "#ffffff"), "dark": ("#e8e8ee", "#44444e", "#16161a")}


def colour_config(theme: Theme) -> dict[str, Any]:
    """Vega-Lite configuration of a finished chart: fonts, lines, background."""
    ink, line, ground = _INK[theme]
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12}
    return {
        "background": ground,
        "font": "system-ui, 'Helvetica Neue', Arial, sans-serif",
        "title": {
            "color": ink,
            "subtitleColor": ink,
            "fontSize": 13,
            "subtitleFontSize": 11,
            "anchor": "start",
            "frame": "group",
        },
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "domainColor": ink,
            "tickColor": ink,
            "gridColor": line,
        },
        "legend": {**text, "titleFontWeight": "normal", "labelLimit": 220, "titleLimit": 260},
        "header": {**text, "labelFontSize": 12, "labelFontWeight": "bold"},
        "text": {"color": ink},
        "view": {"stroke": line},
    }


def themed(chart: Chart, theme: Theme = "light") -> Chart:
    """The chart with fonts and colours for a light or a dark page."""
    return chart.configure(**colour_config(theme))


def inline(rows: pa.Table) -> alt.Data:
    """Rows for a chart. Not a data frame: Altair would refuse more than 5,000 rows."""
    return alt.Data(values=rows.to_pylist())


def tooltip(rows: pa.Table) -> list[alt.Tooltip]:
    """What shows while the pointer rests on a mark: every column of its row, fractions with four digits."""
    fractions = {field.name for field in rows.schema if pa.types.is_floating(field.type)}
    return [
        alt.Tooltip(name, type="quantitative", title=name.replace("_", " "), format=".4g")
        if name in fractions
        else alt.Tooltip(name, type="nominal", title=name.replace("_", " "))
        for name in rows.column_names
    ]


def panels(rows: pa.Table, layers: Sequence[alt.Chart], by: str = "run", **size: Any) -> alt.FacetChart:
    """The layers drawn once for each value of the column `by`, two panels to a row of the page.

    Args:
        rows: Rows of all panels, which are in the order in which the values come first.
        layers: Charts without data, drawn over each other.
        by: Column that tells the panels apart.
        **size: Properties of a panel: `width`, `height`.
    """
    panel = alt.LayerChart(layer=layers, data=inline(rows)).properties(**size)
    return panel.facet(facet=alt.Facet(f"{by}:N", title=None, sort=unique(rows, by)), columns=2)


def parts(rows: pa.Table, first: str, second: str) -> Iterator[tuple[str, str, pa.Table]]:
    """Every pair of a value of one column and a value of another, with its rows: possibly none."""
    for one in unique(rows, first):
        for other in unique(rows, second):
            yield one, other, rows.filter((pc.field(first) == one) & (pc.field(second) == other))


def by_criterion(rows: pa.Table) -> pa.Table:
    """The rows, those of the paper's criterion first: in the order of every legend."""
    order = [*CRITERION_COLOURS]
    places = [order.index(criterion) for criterion in rows["criterion"].to_pylist()]
    return rows.take(sorted(range(len(places)), key=places.__getitem__))


def criterion_colour(rows: pa.Table) -> alt.Color:
    """Colour by criterion: each has its own in every chart; the legend lists those that occur."""
    known = unique(by_criterion(rows), "criterion")
    scale = alt.Scale(domain=known, range=[CRITERION_COLOURS[name] for name in known])
    # Full strength in the legend, whatever the opacity of the marks.
    return alt.Color("criterion:N", title="criterion", scale=scale, legend=alt.Legend(symbolOpacity=1))


def layer_axis() -> alt.Y:
    """Layers as rows, layer 0 at the bottom."""
    return alt.Y("layer:O", title=["layer", "(0 = input)"], sort="descending")


def unique(rows: pa.Table, column: str) -> list[Any]:
    """Values of a column in the order in which they come first."""
    return list(dict.fromkeys(rows[column].to_pylist()))
