"""Runs, progress while one writes, quarantined examples, jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st
from reading import messages, records, rows, show_figure

_REFRESH_S = 2
_QUIET = timedelta(minutes=1)


def summary(chosen: list[int]) -> None:
    """Counts and bars, which move while a run writes."""
    with messages():
        found = rows("questions/summary", runs=chosen)
        left, middle, right = st.columns(3)
        left.metric("runs", found.num_rows)
        middle.metric("examples committed", sum(found["committed"].to_pylist()))
        right.metric("quarantined", sum(found["quarantined"].to_pylist()))
        st.dataframe(found, hide_index=True, key="summary")
        st.subheader("Progress")
        progress(chosen)


def progress(chosen: list[int]) -> None:
    """Bars of unfinished passes; only the time since a commit tells whether one is still being written."""
    passes = records("questions/progress", runs=chosen)
    if not passes:
        st.caption("Every pass of these runs is finished.")
    quiet = False
    for one in passes:
        text = f"{one['run']}, {one['kind']}: {one['committed']} of {one['total']}"
        if one["examples_per_second"]:
            text += f", {one['examples_per_second']:.1f}/s"
        if one["quarantined"]:
            text += f"; {one['quarantined']} quarantined"
        if one["last_commit"] is not None:
            age = datetime.now(UTC) - one["last_commit"]
            text += f"; last commit {timedelta(seconds=round(age.total_seconds()))} ago"
            quiet = quiet or age > _QUIET
        st.progress(min(one["share"] or 0.0, 1.0), text=text)
    if quiet:
        st.caption(
            "A pass that nothing writes any more goes on where it stopped when its command is run again."
        )


chosen = [run["run_id"] for run in st.session_state["chosen"]]
st.fragment(summary, run_every=_REFRESH_S)(chosen)

quarantined = rows("questions/quarantined", runs=chosen)
if quarantined.num_rows:
    st.subheader("Quarantined examples")
    st.dataframe(quarantined, hide_index=True, key="quarantined")

st.subheader("Jobs")
jobs = rows("questions/jobs")
if jobs.num_rows:
    st.dataframe(jobs, hide_index=True, key="jobs")
else:
    st.info(
        "No job has been run: `attattr jobs run` builds pruning curves, universality, trees and triggers."
    )

show_figure("completeness", chosen)
