"""What a scheduled tick does: attribute, build jobs, verify, compare with the tick before, and report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from attattr_batch.analysis.audits import run_audits
from attattr_batch.analysis.diff import diff_runs
from attattr_batch.analysis.runner import JobRequest, run_jobs
from attattr_batch.errors import StoreError, UserError
from attattr_batch.report.html import write_report
from attattr_batch.runtime.driver import Reporter
from attattr_batch.runtime.run import run_spec
from attattr_batch.schedule.settings import ALL_JOBS, Schedule
from attattr_batch.schedule.state import TickOutcome
from attattr_batch.spec import MachineSettings, RunSpec, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.runs import list_runs

log = logging.getLogger(__name__)


def attribute(
    schedule: Schedule,
    specs: Sequence[RunSpec],
    previous: Sequence[int],
    report: Reporter,
    address: str | None = None,
) -> TickOutcome:
    """Executes the runs of a tick and looks at their results, unless they are those of the tick before.

    Args:
        schedule: The schedule.
        specs: The runs.
        previous: Ids of the runs of the last tick that had any.
        report: Called after every commit with the progress of the pass.
        address: Ray cluster to use instead of the specs' own.

    Raises:
        AttattrError: a run cannot be done, or the store or the report cannot be written.
    """
    store = Store(schedule.db, create=True)
    if address is not None:  # a run that is to be computed in this process stays there
        elsewhere = {"address": address}
        specs = [
            one if one.machine.executor == "local" else make_spec(one.flat() | elsewhere) for one in specs
        ]
    summaries = [run_spec(spec, store, report) for spec in specs]
    message, runs = "; ".join(map(str, summaries)), [summary.run_id for summary in summaries]
    if runs == list(previous):
        return TickOutcome(message, runs)  # nothing changed: no model, data or setting
    findings = [f"run {one.name}: {finding}" for one in summaries for finding in one.findings()]
    machines = {run_id: spec.machine for run_id, spec in zip(runs, specs, strict=True)}
    findings += _build_jobs(store, schedule, machines, report)
    findings += [
        f"audit {one.name}: {one.n_rows} offending rows" for one in run_audits(store)[0] if not one.passed
    ]
    if len(previous) == len(runs):  # otherwise the spec gained or lost runs, and there are no pairs
        findings += _drift(store, schedule, list(zip(previous, runs, strict=True)))
    if schedule.report is not None:
        write_report(store, schedule.report)
    return TickOutcome(message, runs, findings)


def _build_jobs(
    store: Store, schedule: Schedule, machines: Mapping[int, MachineSettings], report: Reporter
) -> list[str]:
    """Builds the schedule's jobs for its runs, with model passes where the runs were computed."""
    if not schedule.jobs:
        return []
    names = () if ALL_JOBS in schedule.jobs else schedule.jobs
    request = JobRequest(names=names, runs=[str(run_id) for run_id in machines], machines=machines)
    try:
        results = run_jobs(store, request, report)
    except StoreError:  # locked for too long, or a full disk: nothing that follows would do better
        raise
    except UserError as error:  # such as a job that is gone: the runs themselves are good
        return [f"jobs: {' '.join(str(error).split())}"]
    findings = [f"job {one.job} {one.status}: {one.error}" for one in results if one.status != "built"]
    return findings + [
        f"job {one.job}: {one.quarantined} examples quarantined" for one in results if one.quarantined
    ]


def _drift(store: Store, schedule: Schedule, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Compares each run with its predecessor, if that was not deleted."""
    findings = []
    with store.read() as connection:
        there = {run.run_id for run in list_runs(connection)}
    for before, now in pairs:
        if before not in there:
            log.info("run %d cannot be compared with run %d, which was deleted", now, before)
            continue
        rows = diff_runs(store, before, now, top=0).to_pylist()
        rank = next((row["value"] for row in rows if row["name"] == "attattr spearman"), None)
        gain = next((row["value"] for row in rows if row["part"] == "accuracy"), None)
        log.info("run %d against run %d: rank correlation %s, accuracy %s", now, before, rank, gain)
        if rank is not None and rank < schedule.min_rank_correlation:
            findings.append(
                f"drift: rank correlation of head importance with run {before} is {rank:.3f},"
                f" below {schedule.min_rank_correlation:g}"
            )
        if gain is not None and -gain > schedule.max_accuracy_drop:
            findings.append(
                f"drift: accuracy is {-gain:.4f} below that of run {before},"
                f" more than {schedule.max_accuracy_drop:g}"
            )
    return findings
