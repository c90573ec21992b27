"""Having the driver answer what a job orders; with torch, so that answers there already go without."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Row

from attattr_batch.analysis.jobs import Job
from attattr_batch.passes.order import Attack, Mask, Order
from attattr_batch.passes.stored import OrderedPlan, StoredRun, plan_attack, plan_masked_accuracy, stored_run
from attattr_batch.runtime.execution import How, complete_pass
from attattr_batch.spec import Machine
from attattr_batch.store.connection import Store
from attattr_batch.store.jobs import register_ordered_pass
from attattr_batch.store.runs import PassKind


def answer_order(store: Store, job: Job, run: Row[Any], order: Order[Any], how: How) -> int:
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
        stored = stored_run(connection, run)
    plan = _plan(job, stored, how.machine, order)
    kind = cast(PassKind, job.materialized)
    with store.write() as connection:
        pass_id = register_ordered_pass(
            connection, run.run_id, kind, job.name, plan.order_key, len(plan.examples)
        )
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined


def _plan(job: Job, stored: StoredRun, machine: Machine, order: Order[Mask] | Order[Attack]) -> OrderedPlan:
    if job.materialized == "masked_accuracy":
        return plan_masked_accuracy(stored, machine, job.name, cast(Order[Mask], order))
    return plan_attack(stored, machine, job.name, cast(Order[Attack], order))
