"""How alike the importance of heads is between runs, and between samples of one run's examples."""

from __future__ import annotations

import streamlit as st
from reading import built_criteria, choose_pair, messages, show_figure

runs = st.session_state["chosen"]
for name in ("stability", "universality"):
    show_figure(name, [run["run_id"] for run in runs])
if len(runs) < 2:
    st.info("A scatter needs two runs.")
    st.stop()
with messages():
    run_a, run_b = choose_pair(runs)
    both = run_a["run_id"], run_b["run_id"]
    # Of none the figure says what is missing.
    criteria = built_criteria(*both) or ["attattr"]
    criterion = st.selectbox("criterion", criteria, key="criterion", bind="query-params")
    show_figure("scatter", both, criterion=criterion)
