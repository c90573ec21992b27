"""Trigger patterns and what they do, beside random tokens."""

from __future__ import annotations

import streamlit as st
from reading import has, messages, rows, show_figure

from attattr_batch.analysis.questions import question

runs = [run["run_id"] for run in st.session_state["chosen"]]
show_figure("triggers", runs)
with messages():
    for name, title in (("trigger_patterns", "Patterns mined"), ("trigger_attacks", "Every attack")):
        if has("trigger_patterns", name):
            st.subheader(title)
            st.caption(question(f"questions/{name}").description)
            st.dataframe(rows(f"questions/{name}", runs=runs), hide_index=True, key=name)
