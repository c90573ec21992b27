"""Accuracy with heads removed."""

from __future__ import annotations

import streamlit as st
from reading import show_figure

runs = [run["run_id"] for run in st.session_state["chosen"]]
for name in ("pruning", "area", "faithfulness", "effectiveness"):
    show_figure(name, runs)
