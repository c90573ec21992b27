"""Charts of accuracy: pruning, the effectiveness analysis, triggers, drift."""

from __future__ import annotations

import altair as alt
import pyarrow as pa

from attattr_batch.report.palette import BLUE, GREY, ORANGE
from attattr_batch.report.theme import (
    Chart,
    by_criterion,
    criterion_colour,
    inline,
    panels,
    parts,
    tooltip,
    unique,
)

_WIDTH = 250


def pruning_curves(rows: pa.Table) -> Chart:
    """Accuracy over the share of heads pruned, a panel for each run.

    Args:
        rows: Columns `run`, `criterion`, `fraction`, `n_pruned`, `accuracy`, `correct`, `n`,
            `ci_low`, `ci_high`, `balanced_accuracy`, `prob_gold`, `majority`.
    """
    axis = alt.Axis(format="%", tickCount=6)
    x = alt.X("fraction:Q", title="heads pruned, least important first", axis=axis)
    majority = (
        alt.Chart()
        .mark_line(color=GREY, strokeDash=[1, 3])
        .encode(x=x, y=alt.Y("majority:Q", title="accuracy"))
    )
    return _accuracy_curves(rows, x, "run", majority)


def effectiveness_curves(rows: pa.Table) -> Chart:
    """Accuracy over heads removed from each layer, a row for each run and a column for each direction.

    Args:
        rows: Columns `run`, `panel` (title: run and direction), `criterion`, `k`, `accuracy`, `correct`, `n`,
            `ci_low`, `ci_high`.
    """
    x = alt.X("k:Q", title="heads removed from every layer", axis=alt.Axis(tickMinStep=1, format="d"))
    return _accuracy_curves(rows, x, "panel")


def _accuracy_curves(rows: pa.Table, x: alt.X, by: str, *behind: alt.Chart) -> Chart:
    """Accuracy by criterion with bands for the intervals, over what is drawn behind."""
    rows = by_criterion(rows)
    y = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    base = alt.Chart().encode(x=x, color=criterion_colour(rows))
    bands = base.mark_area(opacity=0.15).encode(y=alt.Y("ci_low:Q", title="accuracy"), y2="ci_high:Q")
    # The dash tells the control apart where colours fail. Curves of criteria often coincide: the wide one of
    # `attattr`, drawn first, then shows on both sides of another.
    dash = alt.condition("datum.criterion == 'random'", alt.value([4, 3]), alt.value([1, 0]))
    ours = "datum.criterion == 'attattr'"
    lines = base.mark_line().encode(
        y=y, strokeDash=dash, strokeWidth=alt.condition(ours, alt.value(4), alt.value(1.6))
    )
    points = base.mark_circle(opacity=1).encode(
        y=y, size=alt.condition(ours, alt.value(75), alt.value(24)), tooltip=tooltip(rows)
    )
    return panels(rows, [*behind, bands, lines, points], by, width=_WIDTH, height=190)


def pruning_areas(rows: pa.Table) -> Chart:
    """Area under each pruning curve with its interval, a panel for each run.

    Args:
        rows: Columns `run`, `criterion`, `area`, `ci_low`, `ci_high`, `over_random`, `over_random_low`,
            `over_random_high`.
    """
    rows = by_criterion(rows)
    y = alt.Y("criterion:N", title=None, sort=unique(rows, "criterion"))
    base = alt.Chart().encode(y=y, color=criterion_colour(rows).legend(None))
    bars = base.mark_rule(strokeWidth=2).encode(x="ci_low:Q", x2="ci_high:Q")
    x = alt.X("area:Q", title="area under the pruning curve", scale=alt.Scale(domain=[0, 1]))
    dots = base.mark_circle(size=70, opacity=1).encode(x=x, tooltip=tooltip(rows))
    return panels(rows, [bars, dots], width=_WIDTH, height=240)


def accuracy_drift(rows: pa.Table) -> Chart:
    """Accuracy of the runs of each task in the order in which they were made, a panel for each task.

    Args:
        rows: Columns `task`, `run`, `made`, `accuracy`, `n`, `ci_low`, `ci_high`.
    """
    axis = alt.Axis(labelAngle=-30)
    base = alt.Chart().encode(
        x=alt.X("run:N", title="run, oldest first", sort=unique(rows, "run"), axis=axis),
        color=alt.value(BLUE),
    )
    y = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format="%"))
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("ci_low:Q", title="accuracy"), y2="ci_high:Q")
    dots = base.mark_circle(size=70, opacity=1).encode(y=y, tooltip=tooltip(rows))
    chart = panels(rows, [bars, dots], "task", width=alt.Step(60), height=200)
    return chart.resolve_scale(x="independent")


def trigger_effects(rows: pa.Table) -> Chart:
    """Each pattern beside its random control, a row of panels for each run.

    Args:
        rows: Columns `run`, `ranking`, `source`, `label` (class, pattern and source), `n`, `clean`,
            `control`, `inserted`, `over_control`, `ci_low`, `ci_high`, `draws`, `twins_as_strong`, `p`,
            `p_adjusted`.
    """
    drawn = [
        _trigger_panel(part, f"{run}: {ranking}", _COUNTED[ranking])
        for run, ranking, part in parts(rows, "run", "ranking")
        if part.num_rows  # a run of two classes has no `push`
    ]
    return alt.concat(*drawn, columns=2, spacing=20).resolve_scale(y="independent")


_COUNTED = {
    "drop": "answered correctly, of the class attacked",
    "push": "answered with the pattern's class, of the others",
}
_INSERTED = {"clean": "no insertion", "control": "random tokens", "inserted": "the pattern"}


def _trigger_panel(rows: pa.Table, title: str, counted: str) -> alt.LayerChart:
    base = alt.Chart().encode(
        y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=230)),
        tooltip=tooltip(rows.drop_columns(["run", "ranking", "place", "label"])),
    )
    names, axis = list(_INSERTED.values()), alt.Axis(format="%", titleLimit=340)
    colours = alt.Scale(domain=names, range=[GREY, BLUE, ORANGE])
    shapes = alt.Scale(domain=names, range=["diamond", "circle", "triangle-up"])
    points = (
        base.transform_fold(list(_INSERTED), as_=["what", "share"])
        .mark_point(size=65, filled=True, opacity=1)
        .encode(
            x=alt.X("share:Q", title=f"rows {counted}", scale=alt.Scale(domain=[0, 1]), axis=axis),
            color=alt.Color("inserted_as:N", title="inserted", scale=colours),
            shape=alt.Shape("inserted_as:N", title="inserted", scale=shapes),
        )
        .transform_calculate(inserted_as=f"{_INSERTED}[datum.what]")
    )
    links = base.mark_rule(color=GREY).encode(x="control:Q", x2="inserted:Q")
    chart = alt.LayerChart(layer=[links, points], data=inline(rows), title=title)
    return chart.properties(width=270, height=alt.Step(19))
