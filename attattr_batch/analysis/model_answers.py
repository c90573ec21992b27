"""Having the driver answer what a job orders; with torch, so that answers there already go without."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Row

from attattr_batch.analysis.catalogue import Job
from attattr_batch.passes.reopening import (
    ReopenedRun,
    RequestPlan,
    plan_attack,
    plan_masked_accuracy,
    reopen_run,
)
from attattr_batch.passes.requests import Attack, Mask, Request
from attattr_batch.runtime.execution import ExecutionSettings, complete_pass
from attattr_batch.spec import Machine
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import register_requested_pass
from attattr_batch.store.writing.passes import PassKind


def answer_request(store: Store, job: Job, run: Row[Any], order: Request[Any], how: ExecutionSettings) -> int:
    """Has what a job orders of one run computed, or the rest of it.

    Args:
        store: The store.
        job: The job.
        run: The run.
        order: What is ordered of it.
        how: Where to compute, and whom to tell.

    Returns:
        Examples that failed every attempt.

    Raises:
        ModelGoneError: the run's model is gone or changed.
        UserError: examples are ordered that the run lacks, or no worker can start.
        TerminalError: no example can be answered.
    """
    with store.read() as connection:
        stored = reopen_run(connection, run)
    plan = _plan(job, stored, how.machine, order)
    kind = cast(PassKind, job.materialized)
    with store.write() as connection:
        pass_id = register_requested_pass(
            connection, run.run_id, kind, job.name, plan.request_key, len(plan.examples)
        )
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined


def _plan(
    job: Job, stored: ReopenedRun, machine: Machine, order: Request[Mask] | Request[Attack]
) -> RequestPlan:
    if job.materialized == "masked_accuracy":
        return plan_masked_accuracy(stored, machine, job.name, cast(Request[Mask], order))
    return plan_attack(stored, machine, job.name, cast(Request[Attack], order))
