"""The log of every build of a job, and what it says about the present ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from attattr_batch.store.database.tables import job_runs, runs
from attattr_batch.store.writing.runs import next_id


@dataclass(frozen=True)
class JobRun:
    """One attempt at a job; each field is the column of `job_runs` of that name."""

    job: str
    params: Mapping[str, Any]
    runs: Sequence[str]
    started_at: datetime
    query_key: str


@dataclass(frozen=True)
class Build:
    """One build of a job that did not fail.

    Attributes:
        number: The later, the larger (`job_runs.job_run_id`).
        params: Its parameters.
        query_key: Hash of its query; None if that was not kept.
        current: Whether the run has had the same examples since: none was tried again.
    """

    number: int
    params: Mapping[str, Any]
    query_key: str | None
    current: bool = True


def past_builds(connection: Connection) -> dict[str, dict[str, list[Build]]]:
    """The builds of each job for each run, by the job's name and the run's, the latest last.

    Those for a run that was deleted are not of a later run of its name.
    """
    columns = select(runs.c.name, runs.c.created_at, runs.c.sealed_at)
    registered = {run.name: run for run in connection.execute(columns)}
    builds: dict[str, dict[str, list[Build]]] = {}
    query = select(job_runs).where(job_runs.c.result == "built").order_by(job_runs.c.job_run_id)
    for row in connection.execute(query).all():
        for name in json.loads(row.runs):
            run = registered.get(name)
            if run is not None and run.created_at <= row.started_at:
                current = run.sealed_at is not None and run.sealed_at <= row.started_at
                build = Build(row.job_run_id, json.loads(row.params), row.query_key, current)
                builds.setdefault(row.job, {}).setdefault(name, []).append(build)
    return builds


def log_job(
    connection: Connection, job_run: JobRun, *, rows: int | None = None, error: str | None = None
) -> None:
    """Adds a row to `job_runs`: of a failure if there is an error."""
    row = {
        **vars(job_run),
        "job_run_id": next_id(connection, "last_job_run_id"),
        "params": json.dumps(job_run.params, sort_keys=True),
        "runs": json.dumps(list(job_run.runs)),
        "result": "built" if error is None else "failed",
        "finished_at": datetime.now(UTC),
        "rows": rows,
        "error": error,
    }
    connection.execute(insert(job_runs).values(**row))
