"""Charts of accuracy: pruning, the effectiveness analysis, triggers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import pyarrow as pa

from attattr_batch.markup import BLUE, ORANGE
from attattr_batch.report.theme import (
    CRITERION_COLOURS,
    GREY,
    Chart,
    by_run,
    criterion_colour,
    inline,
    unique,
)

_PANEL = {"width": 250, "height": 190}
_ACCURACY_TOOLTIP = [
    "run:N",
    "criterion:N",
    alt.Tooltip("accuracy:Q", format=".1%"),
    alt.Tooltip("ci_low:Q", title="from", format=".1%"),
    alt.Tooltip("ci_high:Q", title="to", format=".1%"),
    "correct:Q",
    alt.Tooltip("n:Q", title="answers"),
]


def pruning_curves(rows: pa.Table) -> Chart:
    """Accuracy over the share of heads pruned, a panel for each run.

    Args:
        rows: Columns `run`, `criterion`, `fraction`, `n_pruned`, `accuracy`, `correct`, `n`,
            `ci_low`, `ci_high`.
    """
    x = alt.X(
        "fraction:Q", title="heads pruned, least important first", axis=alt.Axis(format="%", tickCount=6)
    )
    tooltip = [*_ACCURACY_TOOLTIP, alt.Tooltip("n_pruned:Q", title="heads pruned")]
    chart = _lines_with_bands(rows, x, tooltip)
    return chart.facet(facet=by_run(rows), columns=2)


def effectiveness_curves(rows: pa.Table) -> Chart:
    """Accuracy over heads removed from each layer, a row for each run and a column for each direction.

    Args:
        rows: Columns `run`, `criterion`, `direction`, `k`, `accuracy`, `correct`, `n`, `ci_low`, `ci_high`.
    """
    x = alt.X("k:Q", title="heads removed from every layer", axis=alt.Axis(tickMinStep=1, format="d"))
    directions = {"largest_first": "largest removed first", "smallest_first": "smallest removed first"}
    named = [f"{row['run']}: {directions[row['direction']]}" for row in rows.to_pylist()]
    order = [f"{run}: {title}" for run in unique(rows, "run") for title in directions.values()]
    chart = _lines_with_bands(
        rows.append_column("panel", pa.array(named, pa.string())), x, [*_ACCURACY_TOOLTIP, "k:Q"]
    )
    return chart.facet(facet=alt.Facet("panel:N", title=None, sort=order), columns=2)


def pruning_areas(rows: pa.Table) -> Chart:
    """Area under each pruning curve with its interval, a panel for each run.

    Args:
        rows: Columns `run`, `criterion`, `area`, `ci_low`, `ci_high`, `over_random`, `over_random_low`,
            `over_random_high`.
    """
    order = list(CRITERION_COLOURS)
    y = alt.Y("criterion:N", title=None, sort=order)
    colour = criterion_colour(unique(rows, "criterion")).legend(None)
    tooltip = [
        "run:N",
        "criterion:N",
        alt.Tooltip("area:Q", format=".3f"),
        alt.Tooltip("ci_low:Q", title="from", format=".3f"),
        alt.Tooltip("ci_high:Q", title="to", format=".3f"),
        alt.Tooltip("over_random:Q", title="over random", format="+.3f"),
        alt.Tooltip("over_random_low:Q", title="from", format="+.3f"),
        alt.Tooltip("over_random_high:Q", title="to", format="+.3f"),
    ]
    x = alt.X("area:Q", title="area under the pruning curve", scale=alt.Scale(domain=[0, 1]))
    bars = alt.Chart().mark_rule(strokeWidth=2).encode(x=alt.X("ci_low:Q"), x2="ci_high:Q", y=y, color=colour)
    dots = alt.Chart().mark_circle(size=70, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)
    panel = alt.LayerChart(layer=[bars, dots], data=inline(rows)).properties(
        width=_PANEL["width"], height=120
    )
    return panel.facet(facet=by_run(rows), columns=2)


def trigger_effects(rows: pa.Table) -> Chart:
    """Each pattern beside its random control, a row of panels for each run.

    Args:
        rows: Columns `run`, `ranking`, `class`, `place`, `pattern`, `argues_for`, `n`, `clean`, `control`,
            `inserted`, `over_control`, `ci_low`, `ci_high`, `draws`, `twins_as_strong`, `p`, `p_adjusted`.
    """
    rankings = {
        "drop": "answered correctly, of the class attacked",
        "push": "answered with the pattern's class, of the others",
    }
    labelled = _with_labels(rows.to_pylist())
    # Made once for each ranking: Altair takes long to check what it is given.
    templates = {ranking: _trigger_panel(title) for ranking, title in rankings.items()}
    panels = []
    for run in unique(rows, "run"):
        for ranking, template in templates.items():
            values = [row for row in labelled if (row["run"], row["ranking"]) == (run, ranking)]
            if values:  # a run of two classes has no `push`
                panel = template.copy(deep=False)
                panel.title, panel.data = f"{run}: {ranking}", alt.Data(values=values)
                panels.append(panel)
    return alt.concat(*panels, columns=2, spacing=20).resolve_scale(y="independent")


def _with_labels(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with a label each, which no other row of the panel has."""
    labels = [f"{row['class']}: {row['pattern']}" for row in rows]
    places = [(row["run"], row["ranking"], label) for row, label in zip(rows, labels, strict=True)]
    together = Counter(places)
    # The same words may have been mined for two classes.
    return [
        {**row, "label": label if together[place] == 1 else f"{label} (for {row['argues_for']})"}
        for row, label, place in zip(rows, labels, places, strict=True)
    ]


def _trigger_panel(share: str) -> alt.LayerChart:
    y = alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=230))
    tooltip = [
        alt.Tooltip("label:N", title="class: pattern"),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("clean", "control", "inserted")),
        alt.Tooltip("over_control:Q", title="beyond control", format="+.1%"),
        alt.Tooltip("ci_low:Q", title="95 % from", format="+.1%"),
        alt.Tooltip("ci_high:Q", title="to", format="+.1%"),
        alt.Tooltip("n:Q", title="rows"),
        alt.Tooltip("draws:Q", title="random twins"),
        alt.Tooltip("twins_as_strong:Q", title="of them as strong"),
        alt.Tooltip("p:Q", format=".3f"),
        alt.Tooltip("p_adjusted:Q", title="p, adjusted", format=".3f"),
    ]
    base = alt.Chart().encode(y=y, tooltip=tooltip)
    names = {"clean": "no insertion", "control": "random tokens", "inserted": "the pattern"}
    points = (
        base.transform_fold(list(names), as_=["what", "share"])
        .mark_point(size=65, filled=True, opacity=1)
        .encode(
            x=alt.X(
                "share:Q",
                title=f"rows {share}",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", titleLimit=340),
            ),
            color=alt.Color("inserted_as:N", title="inserted", scale=_TRIGGER_COLOURS),
            shape=alt.Shape("inserted_as:N", title="inserted", scale=_TRIGGER_SHAPES),
        )
        .transform_calculate(inserted_as=f"{names}[datum.what]")
    )
    links = base.mark_rule(color=GREY).encode(x=alt.X("control:Q"), x2="inserted:Q")
    height = alt.Step(19)
    return alt.LayerChart(layer=[links, points]).properties(width=270, height=height)


_OURS = "datum.criterion == 'attattr'"
_INSERTED = ["no insertion", "random tokens", "the pattern"]
_TRIGGER_COLOURS = alt.Scale(domain=_INSERTED, range=[GREY, BLUE, ORANGE])
_TRIGGER_SHAPES = alt.Scale(domain=_INSERTED, range=["diamond", "circle", "triangle-up"])


def _lines_with_bands(rows: pa.Table, x: alt.X, tooltip: Sequence[Any]) -> alt.LayerChart:
    colour = criterion_colour(unique(rows, "criterion"))
    y = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    bands = (
        alt.Chart()
        .mark_area(opacity=0.15)
        .encode(x=x, y=alt.Y("ci_low:Q", title="accuracy"), y2="ci_high:Q", color=colour)
    )
    # The dash tells the control apart where colours fail. Curves of criteria often coincide: the wide one of
    # `attattr`, drawn first, then shows on both sides of another.
    dash = alt.condition("datum.criterion == 'random'", alt.value([4, 3]), alt.value([1, 0]))
    width = alt.condition(_OURS, alt.value(4), alt.value(1.6))
    size = alt.condition(_OURS, alt.value(75), alt.value(24))
    lines = alt.Chart().mark_line().encode(x=x, y=y, color=colour, strokeDash=dash, strokeWidth=width)
    points = alt.Chart().mark_circle(opacity=1).encode(x=x, y=y, color=colour, size=size, tooltip=tooltip)
    ordered = sorted(rows.to_pylist(), key=lambda row: list(CRITERION_COLOURS).index(row["criterion"]))
    return alt.LayerChart(layer=[bands, lines, points], data=alt.Data(values=ordered)).properties(**_PANEL)
