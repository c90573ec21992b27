"""Builds jobs in order: a table or view in one transaction, answers of the model through the driver."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Row

from attattr_batch.analysis.answering import Machines, answer_requests
from attattr_batch.analysis.audits import audit_of, offending_rows
from attattr_batch.analysis.catalogue import Catalogue, load_catalogue
from attattr_batch.analysis.steps import Step, steps_to_build
from attattr_batch.errors import AttattrError, UserError
from attattr_batch.runtime.driver import Reporter
from attattr_batch.spec import MachineSettings
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.builds import JobRun, log_job, present_builds, record_builds
from attattr_batch.store.writing.jobs import (
    describe,
    explained,
    prepare,
    query_rows,
    replace_table,
    replace_view,
    runs_in_pairs,
)
from attattr_batch.store.writing.passes import count_answers, take_back
from attattr_batch.store.writing.runs import SEALED, list_runs, resolve_run, unlabelled_runs, wordless_runs

log = logging.getLogger(__name__)

_SHOWN_ROWS = 3


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: Its name.
        status: `built`, `failed`, or `skipped` because a job it depends on failed.
        rows: Rows of its table; for a pass, answers stored; None for a view or where nothing was built.
        seconds: How long it took.
        error: Why it failed.
        quarantined: Examples that failed every attempt of its pass.
    """

    job: str
    status: Literal["built", "failed", "skipped"]
    rows: int | None = None
    seconds: float = 0.0
    error: str | None = None
    quarantined: int = 0


@dataclass(frozen=True)
class JobRequest:
    """Which jobs to build, and how.

    Attributes:
        names: Jobs; those they depend on are built first, and those that were built from what changes last.
            Empty: every job.
        runs: Names or ids of the runs to build them for. Empty: every sealed run.
        params: Values of parameters (`NAME`, or `JOB.NAME` for one job alone), as text.
        folder: A folder with more jobs.
        machine: Where passes are computed.
        machines: Where those of some runs are computed instead, by run id.
        retry_errors: Whether to try quarantined examples of passes again.
    """

    names: Sequence[str] = ()
    runs: Sequence[str] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    machine: MachineSettings = field(default_factory=MachineSettings)
    machines: Mapping[int, MachineSettings] = field(default_factory=dict)
    retry_errors: bool = False


def run_jobs(store: Store, request: JobRequest, report: Reporter) -> list[JobResult]:
    """Builds jobs; one that fails leaves what was there before, and those that depend on it are skipped.

    Args:
        store: The store; one of an earlier release is migrated.
        request: What to build.
        report: Told after every commit how far a pass is.

    Raises:
        UserError: an unknown job, run or parameter, a wrong value, or a run that is not sealed. Nothing was
            built.
    """
    catalogue = load_catalogue(request.folder)
    with store.read_earlier():
        pass  # an empty file stays as it is
    store.migrate()
    with store.read() as connection:
        runs = _select_runs(connection, request.runs)
        builds = present_builds(connection)
        run_ids = [run.run_id for run in runs]
        unlabelled = unlabelled_runs(connection, run_ids)
    steps = steps_to_build(catalogue, request.names, request.params, runs, builds)
    wordless: list[str] = []
    if any(step.values.get("units") == "words" for step in steps):  # looks at every token of the store
        with store.read() as connection:
            wordless = wordless_runs(connection, run_ids)
    for step in steps:
        _warn(step, unlabelled, wordless)
    results: dict[str, JobResult] = {}
    for step in steps:
        name, needed = step.job.name, step.job.file.depends
        broken = [one for one in needed if one in results and results[one].status != "built"]
        if broken:
            results[name] = JobResult(name, "skipped", error=f"depends on {', '.join(broken)}")
        else:
            results[name] = _Builder(store, catalogue, request, report, step).build()
    store.checkpoint()
    return list(results.values())


@dataclass
class _Builder:
    """Builds one job for some runs."""

    store: Store
    catalogue: Catalogue
    request: JobRequest
    report: Reporter
    step: Step
    keys: dict[int, str] = field(default_factory=dict)

    def build(self) -> JobResult:
        """Builds the job and logs it; a failure is a result."""
        job, values = self.step.job, self.step.values
        started, clock = datetime.now(UTC), time.monotonic()
        log.info("job %s", job.name)
        entry = JobRun(job.name, values, [run.name for run in self.step.runs], started)
        store, quarantined = self.store, 0
        try:
            if job.is_pass:
                quarantined = self._answer()
                store = store.patient()
            with store.write() as connection:
                rows = self._make(connection)
                offence = self._audit(connection)
                if offence is None:
                    record_builds(connection, job.name, values, self.keys)
                    log_job(connection, entry, rows=rows)
                elif not job.is_pass:
                    raise offence  # which undoes what was made
            if offence is not None:
                raise offence
        except AttattrError as error:
            with self.store.write() as connection:
                log_job(connection, entry, error=str(error))
            return JobResult(job.name, "failed", seconds=time.monotonic() - clock, error=str(error))
        return JobResult(job.name, "built", rows, time.monotonic() - clock, quarantined=quarantined)

    def _answer(self) -> int:
        """Has the answers computed that the job requests; returns how many examples were quarantined."""
        with self.store.read() as connection, explained(self.step.job.name):
            prepare(connection, self.step.run_ids)
            rows = query_rows(connection, self.step.job.file.query, self.step.values)
            self.keys = self._build_keys(connection)
        wanted = self.request
        machine = Machines(wanted.machine, wanted.machines, wanted.retry_errors)
        return answer_requests(self.store, self.step, rows, machine, self.report)

    def _make(self, connection: Connection) -> int | None:
        """Makes the table or view; returns its rows, or the answers of a pass, which are there already."""
        job = self.step.job
        if job.is_pass:
            return count_answers(connection, job.pass_kind, job.name)
        with explained(job.name):
            rows = None
            if job.materialized == "view":
                replace_view(connection, job.name, job.file.query)
            else:
                prepare(connection, self.step.run_ids)
                values, run_ids = self.step.values, self.step.run_ids
                rows = replace_table(connection, job.name, job.file.query, values, run_ids)
            describe(connection, job.name, job.file.description, job.file.columns)
        self.keys = self._build_keys(connection)
        return rows

    def _build_keys(self, connection: Connection) -> dict[int, str]:
        """Keys of what is built in this transaction, by run id."""
        job, builds = self.step.job, present_builds(connection)
        wanted = set(self.step.run_ids)
        if not job.is_pass:  # a pair of runs may be about one that the job was never built for
            pairs = runs_in_pairs(connection, job.name)
            wanted |= {run_id for run_id in pairs if (job.name, run_id) not in builds}
        keys = {of: build.key for of, build in builds.items()}
        runs = [run for run in list_runs(connection) if run.run_id in wanted]
        return {run.run_id: job.build_key(self.step.values, run, keys) for run in runs}

    def _audit(self, connection: Connection) -> UserError | None:
        """The first audit that finds something; answers that offend are taken back, to be computed again."""
        job = self.step.job
        for name in job.audits:
            audit = self.catalogue.audits[name]
            with explained(f"{job.name}, audit {name}"):
                # What another job or run has in the same table is not this build's fault.
                own = job.name if job.is_pass else None
                query = audit_of(connection, audit.query, self.step.run_ids, own)
                offending = offending_rows(connection, query, _SHOWN_ROWS)
            if offending.num_rows:
                became, hint = self._drop_offending(connection, query)
                return UserError(
                    f"job {job.name} fails its audit {name}, {became}",
                    got="; ".join(str(row) for row in offending.to_pylist()),
                    allowed=audit.description,
                    hint=hint,
                )
        return None

    def _drop_offending(self, connection: Connection, query: str) -> tuple[str, str | None]:
        """What becomes of a result that an audit's query rejects, and what to do next."""
        job = self.step.job
        if not job.is_pass:
            return "so its result was not kept", None
        count = take_back(connection, job.pass_kind, job.name, query)
        if not count:
            return "which names none of its answers, so they stay", None
        hint = f"`attattr jobs run {job.name}` computes them again"
        return f"so its answers to {count} of the examples were taken back", hint


def _select_runs(connection: Connection, names: Sequence[str]) -> list[Row[Any]]:
    """The runs to build for: those named, or every sealed one."""
    chosen = [resolve_run(connection, name) for name in names]
    for run in chosen:
        if run.status != SEALED:
            raise UserError(
                "jobs need finished runs",
                got=f"run {run.name} is {run.status}",
                hint="finish it: the `attattr run` command that began it goes on from where it stopped",
            )
    if chosen:
        return list({run.run_id: run for run in chosen}.values())
    known = list_runs(connection)
    sealed = [run for run in known if run.status == SEALED]
    if not sealed:
        got = f"{len(known)} runs, none of them finished" if known else "no runs"
        raise UserError("jobs need finished runs", got=got, hint="`attattr run` makes one")
    left_out = [run.name for run in known if run.status != SEALED]
    if left_out:
        log.warning("left out, not finished: %s; what was built for them before stays", ", ".join(left_out))
    return sealed


def _warn(step: Step, unlabelled: Sequence[str], wordless: Sequence[str]) -> None:
    """Says what the job will not have: rows of some runs, or comparisons of runs that differ too much."""
    job = step.job
    if len({tuple(getattr(run, column) for column in job.agree) for run in step.runs}) > 1:
        log.warning("%s compares only runs that agree in %s", job.name, ", ".join(job.agree))
    lacking = job.without_rows(step.runs, [run.name for run in step.runs if run.name in unlabelled])
    if lacking is not None:
        log.warning("no rows: %s", lacking)
    without = [run.name for run in step.runs if run.name in wordless]
    if step.values.get("units") == "words" and without:
        why = "takes words, which these runs of an earlier release do not know"
        log.warning("no rows: %s %s: %s", job.name, why, ", ".join(without))
