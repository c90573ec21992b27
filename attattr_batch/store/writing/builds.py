"""Records what each job was last built from for each run, and logs every attempt to build one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from attattr_batch.store.database.tables import job_builds, job_runs
from attattr_batch.store.writing.runs import next_id


@dataclass(frozen=True)
class Build:
    """What a job's rows of one run were built from.

    Attributes:
        key: Hash of all that they were built from; any other text where that is not known.
        params: Values of the job's parameters.
    """

    key: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class JobRun:
    """One attempt at a job; each field is the column of `job_runs` of that name."""

    job: str
    params: Mapping[str, Any]
    runs: Sequence[str]
    started_at: datetime


def present_builds(connection: Connection) -> dict[tuple[str, int], Build]:
    """The last build of each job for each run, by job and run id; failed attempts do not count."""
    rows = connection.execute(select(job_builds)).all()
    return {(row.job, row.run_id): Build(row.build_key, json.loads(row.params)) for row in rows}


def record_builds(
    connection: Connection, job: str, params: Mapping[str, Any], keys: Mapping[int, str]
) -> None:
    """Records a build of a job in place of the ones before; `keys` are its build keys by run id."""
    connection.execute(delete(job_builds).where(job_builds.c.job == job, job_builds.c.run_id.in_(list(keys))))
    values = {"job": job, "params": json.dumps(params, sort_keys=True)}
    rows = [{**values, "run_id": run_id, "build_key": key} for run_id, key in keys.items()]
    if rows:
        connection.execute(insert(job_builds), rows)


def forget_build_keys(connection: Connection, job: str, run_ids: Sequence[int]) -> None:
    """Notes that a job's rows of these runs are no longer those of its last build."""
    of_job = (job_builds.c.job == job, job_builds.c.run_id.in_(run_ids))
    # Another one each time: what is built from these rows must not look as it did before.
    unknown = uuid.uuid4().hex
    connection.execute(update(job_builds).where(*of_job).values(build_key=unknown))


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
