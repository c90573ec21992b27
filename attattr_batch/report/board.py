"""Charts of how good a ranking of heads is: faithful to what they do, and stable."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

from attattr_batch.report.theme import Chart, by_criterion, criterion_colour, panels, tooltip, unique

_WIDTH = 250


def faithfulness_board(rows: pa.Table) -> Chart:
    """CPR and CMD of each criterion with their intervals, a row of panels for each run.

    Args:
        rows: Columns `run`, `panel` (title: run and area), `criterion`, `value`, `ci_low`, `ci_high`,
            `over_random`, `rank_agreement`, `n`, `ablation`, `note`.
    """
    rows = by_criterion(rows)
    rows = rows.take(sorted(range(len(rows)), key=lambda place: _panel_place(rows, place)))
    y = alt.Y("criterion:N", title=None, sort=unique(rows, "criterion"))
    base = alt.Chart().encode(y=y, color=criterion_colour(rows).legend(None))
    bars = base.mark_rule(strokeWidth=2).encode(x="ci_low:Q", x2="ci_high:Q")
    x = alt.X("value:Q", title="area (share of what all heads do)")
    dots = base.mark_circle(size=70, opacity=1).encode(x=x, tooltip=tooltip(rows))
    return panels(rows, [bars, dots], "panel", width=_WIDTH, height=220).resolve_scale(x="independent")


def _panel_place(rows: pa.Table, place: int) -> tuple[str, bool]:
    """Runs in order, CPR before CMD; the order within a panel stays."""
    return rows["run"][place].as_py(), rows["panel"][place].as_py().endswith("CMD")


def stability_curves(rows: pa.Table) -> Chart:
    """Overlap of the top heads by the number of examples, a panel for each run.

    Args:
        rows: Columns `run`, `criterion`, `sample_size`, `is_own`, `jaccard`, `jaccard_low`, `jaccard_high`,
            `same`, `consensus`.
    """
    rows = by_criterion(rows)
    axis = alt.Axis(values=[20, 100, 500, 2000, 10000], format="~s")
    x = alt.X("sample_size:Q", title="examples", scale=alt.Scale(type="log"), axis=axis)
    base = alt.Chart().encode(x=x, color=criterion_colour(rows))
    title = "overlap of the top heads with the run's"
    low = alt.Y("jaccard_low:Q", title=title, scale=alt.Scale(domain=[0, 1]))
    bands = base.mark_area(opacity=0.15).encode(y=low, y2="jaccard_high:Q")
    bands = bands.transform_filter("datum.criterion == 'attattr'")  # those of all would hide each other
    lines = base.mark_line().encode(y=alt.Y("jaccard:Q", title=title))
    sizes = alt.condition("datum.is_own", alt.value(110), alt.value(24))
    points = base.mark_circle(opacity=1).encode(
        y=alt.Y("jaccard:Q", title=title), size=sizes, tooltip=tooltip(rows)
    )
    return panels(rows, [bands, lines, points], width=_WIDTH, height=190)
