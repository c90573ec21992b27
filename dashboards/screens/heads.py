"""Importance by layer and head; the examples behind one head."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from reading import built_criteria, choose_run, messages, rows, show_chart, show_numbers

from attattr_batch.report.heads import head_distribution, head_map

_ALWAYS = ("attattr", "taylor", "attention")  # means of what every run stores, without any job


def importance(run: dict[str, Any], criterion: str, attributed: str, gold: int | None) -> pa.Table:
    """Rows of a head map: from the job over all examples, else from the scores of the class asked for."""
    if gold is None and attributed == run["classes"][0] and criterion in built_criteria(run["run_id"]):
        found = rows("figures/importance", runs=[run["run_id"]])
        return found.filter(pc.field("criterion") == criterion)
    of_run = {"run": run["name"], "run_id": run["run_id"], "class": attributed, "gold": gold}
    return rows("questions/head_means", criterion=criterion, **of_run)


def show_head(run: dict[str, Any], attributed: str, gold: int | None, head: tuple[int, int]) -> None:
    """Distribution of one head's largest attribution, and the examples in which it is strongest."""
    st.subheader("Layer {}, head {}".format(*head))
    of_head = {"run_id": run["run_id"], "class": attributed, "layer": head[0], "head": head[1], "gold": gold}
    show_chart(head_distribution(rows("questions/head_histogram", **of_head)), key="distribution")
    about = "" if gold is None else f", of gold class {run['labels'][gold]}"
    st.caption(
        f"The examples{about} in which the head's largest attribution is largest, with the edge that has it."
    )
    st.dataframe(rows("questions/head_examples", **of_head), hide_index=True, key="strongest")


def take_click() -> None:
    """Moves the boxes to the head that was clicked."""
    points = st.session_state["map"]["selection"]["clicked"]
    if points:
        st.session_state["layer"], st.session_state["head"] = points[0]["layer"], points[0]["head"]


first, second, third, fourth = st.columns(4)
with first:
    run = choose_run(st.session_state["chosen"], "run")
criteria = list(dict.fromkeys([*_ALWAYS, *built_criteria(run["run_id"])]))
criterion = second.selectbox("criterion", criteria, key="criterion", bind="query-params")
attributed = third.selectbox("attributed class", run["classes"], key="target", bind="query-params")
picked = fourth.selectbox(
    "gold class of the example", ["all", *run["labels"]], key="class", bind="query-params"
)
gold = None if picked == "all" else run["labels"].index(picked)
if criterion not in _ALWAYS and (gold is not None or attributed != run["classes"][0]):
    st.info(f"The criterion {criterion} is known over all examples alone.")
    gold, attributed = None, run["classes"][0]

with messages():
    found = importance(run, criterion, attributed, gold)
    if not found.num_rows:
        st.info("Nothing is committed yet for this choice.")
        st.stop()
    left, right = st.columns([2, 3])
    with left:
        st.caption("Click a head to see its examples. Layer 0 is next to the input.")
        clicked = alt.selection_point(name="clicked", fields=["layer", "head"], empty=False)
        chart = head_map(found, run["name"], criterion).add_params(clicked)
        show_chart(chart, key="map", on_select=take_click)
        layer = st.selectbox("layer", range(run["n_layers"]), key="layer", bind="query-params")
        head = st.selectbox("head", range(run["n_heads"]), key="head", bind="query-params")
    with right:
        show_head(run, attributed, gold, (layer, head))
    show_numbers(found, "heads")
