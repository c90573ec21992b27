"""What changed between two runs, and how runs of one task drift."""

from __future__ import annotations

import altair as alt
import streamlit as st
from reading import choose_run, differences, messages, rows, show_chart, show_numbers

from attattr_batch.markup import BLUE
from attattr_batch.report.theme import inline

runs = st.session_state["chosen"]
if len(runs) > 1:
    first, second = st.columns(2)
    with first:
        run_a = choose_run(runs, "run_a", "run a")
    with second:
        run_b = choose_run([run for run in runs if run != run_a], "run_b", "run b")
    st.caption(
        "Settings that differ, accuracy and the heads that moved most (b - a), with 95 % intervals: of heads"
        " and correlations from resampling both runs' examples, of accuracy from its counts. Large runs take"
        " a few seconds."
    )
    if st.toggle("Compare", key="compare", bind="query-params"):
        with messages(), st.spinner("comparing"):
            changed = differences(run_a["run_id"], run_b["run_id"])
            st.dataframe(changed, hide_index=True, key="changed")
else:
    st.info("A comparison needs two runs.")

st.subheader("Drift")
st.caption("Accuracy of the runs of each task, in the order in which they were made (95 % Wilson interval).")
with messages():
    drift = rows(
        """
        SELECT r.task, r.name AS run, strftime(r.created_at, '%Y-%m-%d %H:%M:%S') AS made, s.accuracy,
            s.labelled AS n, wilson_low(s.correct, s.labelled) AS ci_low,
            wilson_high(s.correct, s.labelled) AS ci_high
        FROM run_summary AS s
        JOIN runs AS r USING (run_id)
        WHERE list_contains(?, s.run_id) AND s.labelled > 0
        ORDER BY r.task, r.created_at
        """,
        [run["run_id"] for run in runs],
    )
    if drift.num_rows:
        x = alt.X(
            "run:N", title="run, oldest first", sort=drift["run"].to_pylist(), axis=alt.Axis(labelAngle=-30)
        )
        y = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format="%"))
        tooltip = ["run:N", "made:N", alt.Tooltip("accuracy:Q", format=".2%"), "n:Q"]
        base = alt.Chart().encode(x=x)
        bars = base.mark_rule(strokeWidth=2, color=BLUE).encode(
            y=alt.Y("ci_low:Q", title="accuracy"), y2="ci_high:Q"
        )
        dots = base.mark_circle(size=70, opacity=1, color=BLUE).encode(y=y, tooltip=tooltip)
        panel = alt.LayerChart(layer=[bars, dots], data=inline(drift)).properties(
            width=alt.Step(60), height=200
        )
        chart = panel.facet(facet=alt.Facet("task:N", title=None), columns=4).resolve_scale(x="independent")
        show_chart(chart, key="drift")
        show_numbers(drift, "drift")
    else:
        st.info("No committed example has a gold label.")
