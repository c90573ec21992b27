"""The dashboard: `attattr dashboard --db STORE` opens it. Every filter lives in the address of the page."""

from __future__ import annotations

import streamlit as st
from reading import messages, records, store_path

# No icon: Streamlit would fetch one from the network.
st.set_page_config(page_title="attattr", layout="wide")

# Nor icons for pages, which it would make the tab's.
PAGES = ("Overview", "Heads", "Universality", "Pruning", "Examples", "Triggers", "Compare", "SQL")

page = st.navigation(
    [
        st.Page(f"screens/{title.lower()}.py", title=title, url_path=title.lower(), default=title == PAGES[0])
        for title in PAGES
    ]
)
st.title(page.title)
with messages():
    runs = records("questions/runs")
    with st.sidebar:
        names = [run["name"] for run in runs]
        picked = st.multiselect("Runs", names, key="runs", bind="query-params", placeholder="every run")
        st.caption(f"store: `{store_path().name}`")
    st.session_state["chosen"] = [run for run in runs if run["name"] in picked] or runs
    if runs or page.url_path == "sql":
        page.run()
    else:
        st.info("The store holds no run yet. `attattr run` makes the first.")
