"""What a scheduled tick does: attribute, verify, report, compare with the tick before, tell."""

from __future__ import annotations

import http.client
import json
import logging
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from attattr_batch.analysis.audits import run_audits
from attattr_batch.analysis.diff import diff_runs
from attattr_batch.analysis.runner import JobRequest, run_jobs
from attattr_batch.errors import StoreError, UserError
from attattr_batch.report.html import write_report
from attattr_batch.runtime.driver import Reporter
from attattr_batch.runtime.run import RunSummary, run_spec
from attattr_batch.schedule.running import TickOutcome
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.state import TickRow
from attattr_batch.schedule.timing import stamp
from attattr_batch.spec import MachineSettings, RunSpec, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.runs import list_runs

log = logging.getLogger(__name__)

_NOTIFY_S = 30.0


class Attributing:
    """Executes ticks with the runtime.

    Args:
        report: Told after every commit how far a pass is.
        address: Ray cluster that overrides the specs' own; None leaves theirs.
    """

    def __init__(self, report: Reporter, address: str | None = None):
        self._report = report
        self._address = address

    def run(self, schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
        """Executes the runs and builds jobs; audits, compares with the tick before, and reports.

        Raises:
            AttattrError: a run cannot be done, or the store or report cannot be written.
        """
        store = Store(schedule.db, create=True)
        if self._address is not None:
            specs = [_at(self._address, spec) for spec in specs]
        summaries = [run_spec(spec, store, self._report) for spec in specs]
        findings = [finding for summary in summaries for finding in _shortcomings(summary)]
        machines = {summary.run_id: spec.machine for summary, spec in zip(summaries, specs, strict=True)}
        findings += self._build_jobs(store, schedule, machines)
        findings += [
            f"audit {one.name}: {one.n_rows} offending rows" for one in run_audits(store)[0] if not one.passed
        ]
        runs = [summary.run_id for summary in summaries]
        # A spec that gained or lost runs since leaves no pairs to compare.
        if len(previous) == len(runs):
            findings += _drift(store, schedule, list(zip(previous, runs, strict=True)))
        if schedule.report is not None:
            write_report(store, schedule.report)
        return TickOutcome("; ".join(_sentence(summary) for summary in summaries), runs, findings)

    def notify(self, schedule: Schedule, tick: TickRow) -> None:
        """Sends the tick's outcome to the schedule's webhook and command; their failures are logged."""
        document = {
            "schedule": schedule.name,
            "tick": stamp(tick.tick),
            "status": tick.status,
            "db": str(schedule.db),
            **(tick.outcome or {}),
        }
        body = json.dumps(document).encode()
        if schedule.notify_url is not None:
            _post(schedule.notify_url, body)
        if schedule.notify_command is not None:
            _call(schedule.notify_command, body)

    def _build_jobs(
        self, store: Store, schedule: Schedule, machines: Mapping[int, MachineSettings]
    ) -> list[str]:
        names = schedule.job_names
        if names is None:
            return []
        request = JobRequest(names=names, runs=[str(run_id) for run_id in machines], machines=machines)
        try:
            results = run_jobs(store, request, self._report)
        except StoreError:  # locked for too long, or a full disk: nothing after this would do better
            raise
        except UserError as error:  # a job that is gone, say: the runs themselves are good
            return [f"jobs: {' '.join(str(error).split())}"]
        findings = [f"job {one.job} {one.status}: {one.error}" for one in results if one.status != "built"]
        return findings + [
            f"job {one.job}: {one.quarantined} examples quarantined" for one in results if one.quarantined
        ]


def _at(address: str, spec: RunSpec) -> RunSpec:
    """The run on another cluster, unless it is to be computed in this process."""
    return spec if spec.machine.executor == "local" else make_spec(spec.flat() | {"address": address})


def _drift(store: Store, schedule: Schedule, pairs: Sequence[tuple[int, int]]) -> list[str]:
    findings = []
    with store.read() as connection:
        there = {run.run_id for run in list_runs(connection)}
    for before, now in pairs:
        if before not in there:
            log.info("run %d cannot be compared with run %d, which is gone", now, before)
            continue
        rows = diff_runs(store, before, now, top=0).to_pylist()
        changes = {(row["part"], row["name"]): row["value"] for row in rows}
        rank = changes.get(("correlation", "attattr spearman"))
        gain = next((value for (part, _), value in changes.items() if part == "accuracy"), None)
        drop = None if gain is None else -gain
        log.info("run %d against run %d: rank correlation %s, accuracy drop %s", now, before, rank, drop)
        if rank is not None and rank < schedule.min_rank_correlation:
            findings.append(
                f"drift: rank correlation of head importance with run {before} is {rank:.3f},"
                f" below {schedule.min_rank_correlation:g}"
            )
        if drop is not None and drop > schedule.max_accuracy_drop:
            findings.append(
                f"drift: accuracy is {drop:.4f} below that of run {before},"
                f" more than {schedule.max_accuracy_drop:g}"
            )
    return findings


def _shortcomings(summary: RunSummary) -> list[str]:
    found = []
    if summary.quarantined:
        found.append(f"run {summary.name}: {summary.quarantined} examples quarantined")
    if summary.uncertified:
        found.append(f"run {summary.name}: {summary.uncertified} rows missed the tolerance")
    return found


def _sentence(summary: RunSummary) -> str:
    accuracy = "" if summary.accuracy is None else f", accuracy {summary.accuracy:.4f}"
    return f"run {summary.name}: {summary.committed} of {summary.n_examples} examples{accuracy}"


def _post(url: str, body: bytes) -> None:
    headers: dict[str, Any] = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=_NOTIFY_S):
            pass
    # HTTPException: an answer that is no HTTP; ValueError: an address that only its use shows to be none.
    except (OSError, http.client.HTTPException, ValueError) as error:
        log.error("the webhook %s could not be told: %s", url, error)


def _call(command: str, body: bytes) -> None:
    try:
        done = subprocess.run(command, shell=True, input=body, timeout=_NOTIFY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("the command %r could not be run: %s", command, error)
        return
    if done.returncode:
        log.error("the command %r ended with exit code %d", command, done.returncode)
