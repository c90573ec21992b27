"""Has the model's answers computed that a job requests, unless the store has them already."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import Row

from attattr_batch.analysis.catalogue import Job
from attattr_batch.analysis.steps import Step
from attattr_batch.errors import ModelGoneError, UserError
from attattr_batch.passes.requests import Request, read_request
from attattr_batch.runtime.driver import Reporter
from attattr_batch.spec import MachineSettings
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import answered, register_requested_pass, seal_pass


@dataclass(frozen=True)
class Machines:
    """Where passes are computed.

    Attributes:
        usual: The machine of every run that `of_runs` does not name.
        of_runs: Machines of some runs, by run id.
        retry_errors: Whether to try quarantined examples again.
    """

    usual: MachineSettings
    of_runs: Mapping[int, MachineSettings]
    retry_errors: bool


def answer_requests(store: Store, step: Step, rows: pa.Table, machines: Machines, report: Reporter) -> int:
    """Has the answers computed that a job requests of each run.

    Args:
        store: The store.
        step: The job, its parameters and its runs.
        rows: What the job's query gave: the requests of all runs.
        machines: Where to compute.
        report: Told after every commit how far a pass is.

    Returns:
        How many examples were quarantined.

    Raises:
        UserError: models of some runs are gone; the other runs have their answers.
    """
    quarantined = 0
    gone: dict[str, ModelGoneError] = {}
    for run in step.runs:
        request = read_request(step.job.materialized, rows, run)
        with store.read() as connection:
            count = answered(connection, run.run_id, step.job.pass_kind, step.job.name, request.key)
        if count is None and not request.items:  # nothing is asked, so no model is needed
            count = _answer_nothing(store, step.job, run, request)
        if count is None or (count and machines.retry_errors):
            try:
                count = _compute(store, step.job, run, request, machines, report)
            except ModelGoneError as error:
                gone[run.name] = error
                continue
        quarantined += count
    if gone:
        raise UserError("\n".join(map(str, gone.values())), hint=_without_models(step, gone))
    return quarantined


def _without_models(step: Step, gone: Mapping[str, Any]) -> str | None:
    """What to do where the models of some runs are gone; None where nothing can be done."""
    ways = [f"go without these answers: --param {one}=none" for one in step.job.optional]
    others = [f"--run {shlex.quote(run.name)}" for run in step.runs if run.name not in gone]
    if others:
        ways.append(f"build for the others alone: {' '.join(others)}")
    return "; or ".join(ways) or None


def _answer_nothing(store: Store, job: Job, run: Row[Any], request: Request) -> int:
    """Puts an empty request in the place of the job's earlier one; returns 0, what is quarantined."""
    with store.write() as connection:
        pass_id = register_requested_pass(connection, run.run_id, job.pass_kind, job.name, request.key, 0)
    seal_pass(store, pass_id)
    return 0


def _compute(
    store: Store, job: Job, run: Row[Any], request: Request, machines: Machines, report: Reporter
) -> int:
    """Has the answers to a request computed; returns how many examples are quarantined."""
    # These import torch, which takes seconds; answers that are there already need none.
    from attattr_batch.passes.reopening import plan_request
    from attattr_batch.runtime.execution import ExecutionSettings, complete_pass

    machine = machines.of_runs.get(run.run_id, machines.usual)
    with store.read() as connection:
        plan = plan_request(connection, run, machine, job.pass_kind, job.name, request)
    with store.write() as connection:
        pass_id = register_requested_pass(
            connection, run.run_id, job.pass_kind, job.name, request.key, len(plan.examples)
        )
    how = ExecutionSettings(machine, report, machines.retry_errors)
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined
