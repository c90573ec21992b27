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
        found = rows(
            "SELECT * EXCLUDE (run_id) FROM run_summary WHERE list_contains(?, run_id) ORDER BY run_id",
            chosen,
        )
        left, middle, right = st.columns(3)
        left.metric("runs", found.num_rows)
        middle.metric("examples committed", sum(found["committed"].to_pylist()))
        right.metric("quarantined", sum(found["quarantined"].to_pylist()))
        st.dataframe(found, hide_index=True, key="summary")
        st.subheader("Progress")
        progress(chosen)


def progress(chosen: list[int]) -> None:
    """Bars of unfinished passes; only the time since a commit tells whether one is still being written."""
    passes = records(
        "SELECT run, kind, committed, quarantined, total, share, examples_per_second, last_commit"
        " FROM progress WHERE status <> 'sealed' AND list_contains(?, run_id) ORDER BY pass_id",
        chosen,
    )
    if not passes:
        st.caption("Every pass of these runs is finished.")
    quiet = False
    for one in passes:
        rate = f", {one['examples_per_second']:.1f}/s" if one["examples_per_second"] else ""
        text = f"{one['run']}, {one['kind']}: {one['committed']} of {one['total']}{rate}"
        failed = f"; {one['quarantined']} quarantined" if one["quarantined"] else ""
        since = ""
        if one["last_commit"] is not None:
            age = datetime.now(UTC) - one["last_commit"]
            since = f"; last commit {timedelta(seconds=round(age.total_seconds()))} ago"
            quiet = quiet or age > _QUIET
        st.progress(min(one["share"] or 0.0, 1.0), text=text + failed + since)
    if quiet:
        st.caption(
            "A pass that nothing writes any more goes on where it stopped when its command is run again."
        )


chosen = [run["run_id"] for run in st.session_state["chosen"]]
if not chosen:
    st.info("The store holds no run yet. `attattr run` makes the first.")
    st.stop()

st.fragment(summary, run_every=_REFRESH_S)(chosen)

failed = rows(
    "SELECT run, pass, example_id, error, message, attempts FROM quarantined"
    " WHERE list_contains(?, run_id) ORDER BY failed_at DESC LIMIT 500",
    chosen,
)
if failed.num_rows:
    st.subheader("Quarantined examples")
    st.dataframe(failed, hide_index=True, key="quarantined")

st.subheader("Jobs")
jobs = rows(
    "SELECT job, result, finished_at, rows, params, error FROM job_runs"
    " QUALIFY row_number() OVER (PARTITION BY job ORDER BY job_run_id DESC) = 1 ORDER BY finished_at"
)
if jobs.num_rows:
    st.dataframe(jobs, hide_index=True, key="jobs")
else:
    st.info(
        "No job has been run: `attattr jobs run` builds pruning curves, universality, trees and triggers."
    )

show_figure("completeness", chosen)
