"""Importance by layer and head; the examples behind one head."""

from __future__ import annotations

from typing import Any

import altair as alt
import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from reading import built_criteria, choose_run, figure_table, messages, rows, show_chart

from attattr_batch.report.heads import head_distribution, head_map

_STATISTICS = {"attattr": "attr_max", "taylor": "taylor", "attention": "attn_confidence"}
_BINS = 30

_HISTOGRAM = """
WITH scores AS (
    SELECT s.attr_max, r.labels[p.predicted + 1] AS predicted
    FROM head_scores AS s
    JOIN predictions AS p USING (run_id, example_id)
    JOIN runs AS r USING (run_id)
    WHERE s.run_id = ? AND s.target = ? AND s.layer = ? AND s.head = ?
        AND p.gold IS NOT DISTINCT FROM coalesce(?, p.gold)
),
width AS (
    SELECT min(attr_max) AS smallest, greatest(max(attr_max) - min(attr_max), 1e-9) / ? AS step FROM scores
)
SELECT smallest + step * bin AS low, smallest + step * (bin + 1) AS high, predicted, count(*) AS n
FROM (SELECT *, least(floor((attr_max - smallest) / step), ? - 1) AS bin FROM scores, width)
GROUP BY ALL
ORDER BY ALL
"""

_STRONGEST = """
WITH strongest AS (
    SELECT s.*
    FROM head_scores AS s
    JOIN predictions AS p USING (run_id, example_id)
    WHERE s.run_id = ? AND s.target = ? AND s.layer = ? AND s.head = ?
        AND p.gold IS NOT DISTINCT FROM coalesce(?, p.gold)
    ORDER BY s.attr_max DESC, s.example_id
    LIMIT 20
)
SELECT s.example_id AS example, s.attr_max AS "max Attr", q.token AS query, k.token AS key,
    r.labels[p.predicted + 1] AS predicted, r.labels[p.gold + 1] AS gold, x.text_a, x.text_b
FROM strongest AS s
JOIN examples AS x USING (run_id, example_id)
JOIN predictions AS p USING (run_id, example_id)
JOIN runs AS r USING (run_id)
LEFT JOIN tokens AS tq
    ON tq.run_id = s.run_id AND tq.example_id = s.example_id AND tq.position = s.attr_max_query
LEFT JOIN tokens AS tk
    ON tk.run_id = s.run_id AND tk.example_id = s.example_id AND tk.position = s.attr_max_key
LEFT JOIN vocabulary AS q ON q.tokenizer_key = r.tokenizer_key AND q.token_id = tq.token_id
LEFT JOIN vocabulary AS k ON k.tokenizer_key = r.tokenizer_key AND k.token_id = tk.token_id
ORDER BY s.attr_max DESC, s.example_id
"""


def importance(run: dict[str, Any], criterion: str, target: str, label: int | None) -> pa.Table:
    """Rows of a head map: from the job over all examples, else from the scores of the class asked for."""
    own = "predicted" if run["target"] == "predicted" else "gold"
    if label is None and target == own and criterion in built_criteria(run["run_id"]):
        found = figure_table("importance", [run["run_id"]])
        return found.filter(pc.field("criterion") == criterion)
    statistic = _STATISTICS[criterion]
    return rows(
        f"""
        SELECT ? AS run, ? AS criterion, s.layer, s.head, avg(s.{statistic})::DOUBLE AS importance,
            count(*) AS n, NULL::DOUBLE AS ci_low, NULL::DOUBLE AS ci_high
        FROM head_scores AS s
        JOIN predictions AS p USING (run_id, example_id)
        WHERE s.run_id = ? AND s.target = ? AND p.gold IS NOT DISTINCT FROM coalesce(?, p.gold)
        GROUP BY s.layer, s.head
        ORDER BY s.layer, s.head
        """,
        run["name"],
        criterion,
        run["run_id"],
        target,
        label,
    )


def show_head(run: dict[str, Any], target: str, label: int | None, head: tuple[int, int]) -> None:
    """Distribution of one head's largest attribution, and the examples in which it is strongest."""
    values = (run["run_id"], target, *head, label)
    st.subheader("Layer {}, head {}".format(*head))
    binned = rows(_HISTOGRAM, *values, _BINS, _BINS)
    strongest = rows(_STRONGEST, *values)
    show_chart(head_distribution(binned, "Largest attribution over examples"), key="distribution")
    about = "" if label is None else f", of gold class {run['labels'][label]}"
    st.caption(
        f"The examples{about} in which the head's largest attribution is largest, with the edge that has it."
    )
    st.dataframe(strongest, hide_index=True, key="strongest")


def take_click() -> None:
    """Moves the boxes to the head that was clicked."""
    points = st.session_state["map"]["selection"]["clicked"]
    if points:
        st.session_state["layer"], st.session_state["head"] = points[0]["layer"], points[0]["head"]


first, second, third, fourth = st.columns(4)
with first:
    run = choose_run(st.session_state["chosen"], "run")
criteria = list(dict.fromkeys([*_STATISTICS, *built_criteria(run["run_id"])]))
criterion = second.selectbox("criterion", criteria, key="criterion", bind="query-params")
targets = ["gold", "predicted"] if run["target"] == "both" else [run["target"]]
target = third.selectbox("attributed class", targets, key="target", bind="query-params")
picked = fourth.selectbox(
    "gold class of the example", ["all", *run["labels"]], key="class", bind="query-params"
)
label = None if picked == "all" else run["labels"].index(picked)
if criterion not in _STATISTICS and (label is not None or target != targets[0]):
    st.info(f"The criterion {criterion} is known over all examples alone.")
    label, target = None, targets[0]

with messages():
    found = importance(run, criterion, target, label)
    if not found.num_rows:
        st.info("Nothing is committed yet for this choice.")
        st.stop()
    left, right = st.columns([2, 3])
    with left:
        st.caption("Click a head to see its examples. Layer 0 is next to the input.")
        clicked = alt.selection_point(name="clicked", fields=["layer", "head"], empty=False)
        chart = head_map(found, f"{run['name']}: {criterion}").add_params(clicked)
        show_chart(chart, key="map", on_select=take_click)
        layer = st.selectbox("layer", range(run["n_layers"]), key="layer", bind="query-params")
        head = st.selectbox("head", range(run["n_heads"]), key="head", bind="query-params")
    with right:
        show_head(run, target, label, (layer, head))
    with st.expander(f"The numbers ({found.num_rows} rows)"):
        st.dataframe(found, hide_index=True, key="numbers")
