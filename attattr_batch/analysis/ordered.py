"""Passes that jobs order: the query's rows become an order, and the driver has it answered."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Row

from attattr_batch.analysis.jobs import Job
from attattr_batch.errors import UserError
from attattr_batch.passes.order import attack_order, mask_order
from attattr_batch.passes.stored import OrderedPlan, StoredRun, plan_attack, plan_masked_accuracy, stored_run
from attattr_batch.runtime.execution import How, complete_pass
from attattr_batch.spec import Machine
from attattr_batch.store.connection import Store
from attattr_batch.store.jobs import register_ordered_pass
from attattr_batch.store.runs import PassKind


def answer_order(store: Store, job: Job, run: Row[Any], rows: pa.Table, how: How) -> int:
    """Has one run's part of a pass job computed, or the rest of it; a finished one is left as it is.

    Args:
        store: The store.
        job: The job.
        run: The run.
        rows: Rows of the job's query, of every run.
        how: Where to compute, and whom to tell.

    Returns:
        Examples that failed every attempt.

    Raises:
        UserError: the query's rows are no order, the run's model is gone or changed, or no worker can start.
        TerminalError: no example can be answered.
    """
    if "run_id" not in rows.column_names:
        raise UserError("the job's query lacks the column run_id", got=", ".join(rows.column_names))
    rows = rows.filter(pc.equal(rows["run_id"], run.run_id))
    with store.read() as connection:
        stored = stored_run(connection, run)
    plan = _plan(job, stored, how.machine, rows)
    kind = cast(PassKind, job.materialized)
    with store.write() as connection:
        pass_id = register_ordered_pass(
            connection, run.run_id, kind, job.name, plan.order_key, len(plan.examples)
        )
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined


def _plan(job: Job, stored: StoredRun, machine: Machine, rows: pa.Table) -> OrderedPlan:
    if job.materialized == "masked_accuracy":
        order = mask_order(rows, stored.n_layers, stored.n_heads)
        return plan_masked_accuracy(stored, machine, job.name, order)
    return plan_attack(stored, machine, job.name, attack_order(rows))
