"""Trigger patterns and what they do, beside random tokens."""

from __future__ import annotations

import streamlit as st
from reading import has, messages, rows, show_figure

runs = [run["run_id"] for run in st.session_state["chosen"]]
show_figure("triggers", runs)
with messages():
    if has("trigger_patterns"):
        st.subheader("Patterns mined")
        st.caption("From the selection rows; value: attribution of the two edges that gave the tokens.")
        patterns = rows(
            """
            SELECT r.name AS run, array_to_string(p.tokens, ' ') AS pattern,
                r.labels[p.predicted + 1] AS "argues for", p.value_1 + p.value_2 AS value, p.layer, p.head,
                p.pattern AS "source example", p.positions
            FROM trigger_patterns AS p
            JOIN runs AS r USING (run_id)
            WHERE list_contains(?, p.run_id)
            ORDER BY value DESC, p.pattern
            LIMIT 500
            """,
            runs,
        )
        st.dataframe(patterns, hide_index=True, key="patterns")
    if has("trigger_attacks", "trigger_patterns"):
        st.subheader("Every attack")
        st.caption("control: means over random tokens at the same places. Believe the rows of part `report`.")
        attacks = rows(
            """
            SELECT r.name AS run, array_to_string(p.tokens, ' ') AS pattern,
                r.labels[a.gold + 1] AS "gold class", a.part, a.control, a.n,
                a.clean_correct / nullif(a.n, 0) AS "clean accuracy", a.correct / nullif(a.n, 0) AS accuracy,
                a.accuracy_low, a.accuracy_high, a.pushed / nullif(a.n, 0) AS pushed, a.push_low, a.push_high
            FROM trigger_attacks AS a
            JOIN trigger_patterns AS p USING (run_id, pattern)
            JOIN runs AS r USING (run_id)
            WHERE list_contains(?, a.run_id)
            ORDER BY a.part, a.run_id, a.pattern, a.gold, a.control
            LIMIT 2000
            """,
            runs,
        )
        st.dataframe(attacks, hide_index=True, key="attacks")
