"""Builds jobs in dependency order: tables and views in one transaction each, passes through the driver."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import Catalogue, Job, load_catalogue
from attattr_batch.analysis.steps import steps_to_build
from attattr_batch.errors import AttattrError, ModelGoneError, UserError
from attattr_batch.passes.requests import Request, read_request
from attattr_batch.runtime.driver import Reporter
from attattr_batch.spec import MachineSettings
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing import jobs as built
from attattr_batch.store.writing.builds import JobRun, log_job, past_builds
from attattr_batch.store.writing.passes import PassKind
from attattr_batch.store.writing.runs import SEALED, list_runs, resolve_run, unlabelled_runs

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
        builds = past_builds(connection)
        unlabelled = unlabelled_runs(connection, [run.run_id for run in runs])
    plan = steps_to_build(catalogue, request.names, request.params, [run.name for run in runs], builds)
    steps = [(step, [run for run in runs if run.name in step.runs]) for step in plan]
    for step, chosen in steps:
        _say_what_is_compared(step.job, chosen)
        if (
            lacking := step.job.without_rows(chosen, [run.name for run in chosen if run.name in unlabelled])
        ) is not None:
            log.warning("no rows: %s", lacking)
    results: dict[str, JobResult] = {}
    for step, chosen in steps:
        name, needed = step.job.name, step.job.file.depends
        broken = [one for one in needed if one in results and results[one].status != "built"]
        if broken:
            results[name] = JobResult(name, "skipped", error=f"depends on {', '.join(broken)}")
        else:
            builder = _Builder(store, catalogue, request, chosen, report)
            results[name] = builder.build(step.job, step.values)
    store.checkpoint()
    return list(results.values())


class _Builder:
    """Builds jobs for some runs."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        request: JobRequest,
        runs: Sequence[Row[Any]],
        report: Reporter,
    ):
        self._store = store
        self._catalogue = catalogue
        self._request = request
        self._runs = runs
        self._report = report

    def build(self, job: Job, values: Mapping[str, Any]) -> JobResult:
        """Builds a job and logs it; a failure is a result."""
        started, clock = datetime.now(UTC), time.monotonic()
        log.info("job %s", job.name)
        entry = JobRun(job.name, values, [run.name for run in self._runs], started, job.query_key)
        quarantined = 0
        try:
            store = self._store
            if job.is_pass:
                quarantined = self._answer(job, values)
                store = store.patient()
            with store.write() as connection:
                rows = self._make(connection, job, values)
                offence = self._audit(connection, job)
                if offence is None:
                    log_job(connection, entry, rows=rows)
                elif not job.is_pass:
                    raise offence  # which undoes what was made
            if offence is not None:
                raise offence
        except AttattrError as error:
            with self._store.write() as connection:
                log_job(connection, entry, error=str(error))
            return JobResult(job.name, "failed", seconds=time.monotonic() - clock, error=str(error))
        return JobResult(job.name, "built", rows, time.monotonic() - clock, quarantined=quarantined)

    def _answer(self, job: Job, values: Mapping[str, Any]) -> int:
        """Has the answers computed that a pass job orders; returns how many examples were quarantined."""
        with self._store.read() as connection, built.explained(job.name):
            built.prepare(connection, [run.run_id for run in self._runs])
            rows = built.query_rows(connection, job.file.query, values)
        kind, quarantined = cast(PassKind, job.materialized), 0
        gone: dict[str, ModelGoneError] = {}
        for run in self._runs:
            order = read_request(kind, rows, run)
            with self._store.read() as connection:
                count = built.answered(connection, run.run_id, kind, job.name, order.key)
            if count is None or (count and self._request.retry_errors):
                try:
                    count = self._compute(job, run, order)
                except ModelGoneError as error:
                    gone[run.name] = error
                    continue
            quarantined += count
        if gone:
            raise self._without(gone)
        return quarantined

    def _compute(self, job: Job, run: Row[Any], order: Request[Any]) -> int:
        # With torch: what needs no answers that are not there yet goes without.
        from attattr_batch.analysis.model_answers import answer_request
        from attattr_batch.runtime.execution import ExecutionSettings

        machine = self._request.machines.get(run.run_id, self._request.machine)
        how = ExecutionSettings(machine, self._report, self._request.retry_errors)
        return answer_request(self._store, job, run, order, how)

    def _without(self, gone: Mapping[str, ModelGoneError]) -> UserError:
        """The error for runs that cannot be asked; the others have answered."""
        others = [f"--run {shlex.quote(run.name)}" for run in self._runs if run.name not in gone]
        hint = f"build for the others alone: {' '.join(others)}" if others else None
        return UserError("\n".join(map(str, gone.values())), hint=hint)

    def _make(self, connection: Connection, job: Job, values: Mapping[str, Any]) -> int | None:
        query, run_ids = job.file.query, [run.run_id for run in self._runs]
        with built.explained(job.name):
            if job.materialized == "view":
                built.replace_view(connection, job.name, query)
                rows = None
            elif job.materialized == "table":
                built.prepare(connection, run_ids)
                rows = built.replace_table(connection, job.name, query, values, run_ids)
            else:
                return built.count_answers(connection, job.materialized, job.name)
            built.describe(connection, job.name, job.file.description, job.file.columns)
        return rows

    def _audit(self, connection: Connection, job: Job) -> UserError | None:
        """The first audit that finds something; answers that offend are taken back, to be computed again."""
        for name in job.audits:
            audit, run_ids = self._catalogue.audits[name], [run.run_id for run in self._runs]
            with built.explained(f"{job.name}, audit {name}"):
                # What another job or run has in the same table is not this build's fault.
                own = job.name if job.is_pass else None
                query = built.audit_of(connection, audit.query, run_ids, own)
                offending = built.offending_rows(connection, query, _SHOWN_ROWS)
            if offending.num_rows:
                became, hint = self._drop_offending(connection, job, query)
                return UserError(
                    f"job {job.name} fails its audit {name}, {became}",
                    got="; ".join(str(row) for row in offending.to_pylist()),
                    allowed=audit.description,
                    hint=hint,
                )
        return None

    def _drop_offending(self, connection: Connection, job: Job, query: str) -> tuple[str, str | None]:
        """What becomes of a result that an audit's query rejects, and what to do next."""
        if not job.is_pass:
            return "so its result was not kept", None
        count = built.take_back(connection, cast(PassKind, job.materialized), job.name, query)
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


def _say_what_is_compared(job: Job, runs: Sequence[Row[Any]]) -> None:
    if not job.agree:
        return
    kinds = {tuple(getattr(run, column) for column in job.agree) for run in runs}
    if len(kinds) < 2:
        return
    shown = "; ".join(
        f"{run.name}: " + ", ".join(f"{column} {getattr(run, column)}" for column in job.agree)
        for run in runs
    )
    log.warning("%s: runs are compared within one architecture only (%s)", job.name, shown)
