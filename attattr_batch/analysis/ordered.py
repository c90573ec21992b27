"""Passes that jobs order: the query's rows become an order, and the driver has it answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Row

from attattr_batch.analysis.jobs import Job
from attattr_batch.errors import UserError
from attattr_batch.identity import content_key
from attattr_batch.passes.order import attack_order, mask_order
from attattr_batch.passes.plan import default_batch_tokens
from attattr_batch.passes.stored import OrderedPlan, StoredRun, plan_attack, plan_masked_accuracy, stored_run
from attattr_batch.runtime.driver import Progress, Reporter
from attattr_batch.runtime.execution import Load, execute_pass
from attattr_batch.spec import make_spec
from attattr_batch.store.connection import Store
from attattr_batch.store.jobs import register_ordered_pass
from attattr_batch.store.runs import PassKind, clear_failures, count_failures, pending_example_ids, seal_pass


@dataclass(frozen=True)
class How:
    """How a pass is computed.

    Attributes:
        machine: Settings of a run spec that say where (`executor`, `workers`, ...), in the place of the run's
            own.
        report: Called after every commit.
        retry_errors: Whether to try quarantined examples again.
    """

    machine: Mapping[str, Any]
    report: Reporter
    retry_errors: bool


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
    """
    if "run_id" not in rows.column_names:
        raise UserError("the job's query lacks the column run_id", got=", ".join(rows.column_names))
    rows = rows.filter(pc.equal(rows["run_id"], run.run_id))
    with store.read() as connection:
        stored = stored_run(connection, run)
    plan = _plan(job, stored, rows)
    example_ids = [example.example_id for example in plan.examples]
    kind = cast(PassKind, job.materialized)
    with store.write() as connection:
        # With the job's name: another job may want the very same answers under its own.
        order = (job.name, content_key([job.name, plan.order_key]), len(example_ids))
        pass_id, sealed = register_ordered_pass(connection, run.run_id, kind, order)
        if how.retry_errors and clear_failures(connection, pass_id):
            sealed = False
        pending = pending_example_ids(connection, pass_id, among=example_ids)
        failed = count_failures(connection, pass_id)
    if not sealed:
        chunks = plan.chunks(pending)
        progress = Progress(len(example_ids), len(example_ids) - len(pending) - failed, failed)
        spec = make_spec({**stored.spec.model_dump(), **how.machine})
        cpu_tokens = spec.batch_tokens or default_batch_tokens("cpu", stored.hidden_size)
        load = Load(plan.work, chunks, _flop(stored, plan), cpu_tokens)
        execute_pass(store, pass_id, load, spec, progress, how.report)
        failed = progress.quarantined
        seal_pass(store, pass_id)
    return failed


def _plan(job: Job, stored: StoredRun, rows: pa.Table) -> OrderedPlan:
    if job.materialized == "masked_accuracy":
        return plan_masked_accuracy(stored, job.name, mask_order(rows, stored.n_layers, stored.n_heads))
    return plan_attack(stored, job.name, attack_order(rows))


def _flop(stored: StoredRun, plan: OrderedPlan) -> float:
    """Arithmetic of one forward pass for every answer, about."""
    tokens = sum(min(example.n_tokens, stored.max_length) for example in plan.examples) * plan.answers_each
    return 24.0 * tokens * stored.n_layers * stored.hidden_size**2
