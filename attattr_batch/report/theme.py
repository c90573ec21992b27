"""How charts look: colours that the colour-blind tell apart, names and units, light and dark.

Charts carry no look of their own beyond the colours of criteria; `themed` gives a finished chart its fonts
and background. The dashboard leaves that to Streamlit, which knows whether the page is dark.
"""

from __future__ import annotations

from typing import Any, Final

import altair as alt
import pyarrow as pa

from attattr_batch.choices import Theme
from attattr_batch.markup import BLUE, ORANGE

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.ConcatChart | alt.HConcatChart | alt.VConcatChart

# Okabe and Ito's palette, less the two colours that are hard to see on white or on black.
CRITERION_COLOURS: Final = {
    "attattr": BLUE,
    "taylor": "#E69F00",
    "taylor_normalised": "#56B4E9",
    "taylor_released": ORANGE,
    "accuracy_difference": "#009E73",
    "attention": "#CC79A7",
    "random": "#8C8C8C",
}
GREY: Final = CRITERION_COLOURS["random"]
AMOUNT: Final = "viridis"

IMPORTANCE: Final = {
    "attattr": "mean of max Attr (probability)",
    "taylor": "mean Taylor score (nats)",
    "taylor_normalised": "mean Taylor score (share of its layer's norm)",
    "taylor_released": "mean Taylor score as released (share of its layer's norm)",
    "accuracy_difference": "accuracy lost without it (share)",
    "attention": "mean confidence of attention",
    "random": "random number (control)",
}

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


def criterion_colour(criteria: list[str]) -> alt.Color:
    """Colour by criterion: each its own in every chart; the legend lists those that occur."""
    known = [name for name in CRITERION_COLOURS if name in criteria]
    scale = alt.Scale(domain=known, range=[CRITERION_COLOURS[name] for name in known])
    # Full strength in the legend, whatever the opacity of the marks.
    return alt.Color("criterion:N", title="criterion", scale=scale, legend=alt.Legend(symbolOpacity=1))


def layer_axis() -> alt.Y:
    """Layers as rows, layer 0 at the bottom."""
    return alt.Y("layer:O", title=["layer", "(0 = input)"], sort="descending")


def by_run(rows: pa.Table) -> alt.Facet:
    """A panel for each run, in the order of the rows."""
    return alt.Facet("run:N", title=None, sort=unique(rows, "run"))


def unique(rows: pa.Table, column: str) -> list[Any]:
    """Values of a column in the order in which they come first."""
    return list(dict.fromkeys(rows[column].to_pylist()))
