"""What changed between two runs, and how runs of one task drift."""

from __future__ import annotations

import streamlit as st
from reading import asked, choose_pair, messages, show_figure

from attattr_batch.analysis.diff import diff_runs

runs = st.session_state["chosen"]
if len(runs) > 1:
    run_a, run_b = choose_pair(runs)
    st.caption(
        "Settings that differ, accuracy and the heads that moved most (b - a), with 95 % intervals: of heads"
        " and correlations from resampling both runs' examples, of accuracy from its counts. Large runs take"
        " a few seconds."
    )
    if st.toggle("Compare", key="compare", bind="query-params"):
        with messages(), st.spinner("comparing"):
            changed = asked(diff_runs, run_a["run_id"], run_b["run_id"])
            st.dataframe(changed, hide_index=True, key="changed")
else:
    st.info("A comparison needs two runs.")

show_figure("drift", [run["run_id"] for run in runs], most=len(runs))
