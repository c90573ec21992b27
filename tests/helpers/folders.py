"""Folders of jobs, written for one test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attattr_batch.analysis.runner import JobRequest, JobResult, run_jobs
from attattr_batch.store.database.connection import Store


def write_job(folder: Path, name: str, query: str, *header: str, materialized: str = "table") -> Path:
    """Writes a job; `header` are more header lines, without the dashes. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"name: {name}", "description: For a test.", f"materialized: {materialized}", *header]
    text = "\n".join([*(f"-- {line}" for line in lines), query])
    (folder / f"{name}.sql").write_text(text + "\n", encoding="utf-8")
    return folder


def write_audit(folder: Path, name: str, query: str) -> None:
    """Writes an audit of a folder of jobs."""
    (folder / "audits").mkdir(parents=True, exist_ok=True)
    text = f"-- name: {name}\n-- description: For a test.\n{query}\n"
    (folder / "audits" / f"{name}.sql").write_text(text, encoding="utf-8")


def build(store: Store, *names: str, runs: Sequence[str] = (), **request: Any) -> dict[str, JobResult]:
    """Builds jobs; what became of each, by name."""
    results = run_jobs(store, JobRequest(names=names, runs=runs, **request), lambda progress: None)
    return {result.job: result for result in results}
