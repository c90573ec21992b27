"""Runs the model passes that a job requests. Imports torch, so import it only when answers are missing."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Row

from attattr_batch.analysis.catalogue import Job
from attattr_batch.passes.reopening import plan_request, reopen_run
from attattr_batch.passes.requests import Request
from attattr_batch.runtime.execution import ExecutionSettings, complete_pass
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import register_requested_pass
from attattr_batch.store.writing.passes import PassKind


def answer_request(
    store: Store, job: Job, run: Row[Any], request: Request[Any], how: ExecutionSettings
) -> int:
    """Computes what a job requests of one run, or the rest of it.

    Args:
        store: The store.
        job: The job.
        run: The run.
        request: What is requested of it.
        how: Where to compute, and whom to tell.

    Returns:
        Examples that failed every attempt.

    Raises:
        ModelGoneError: the run's model is gone or changed.
        UserError: examples are requested that the run lacks, or no worker can start.
        TerminalError: no example can be answered.
    """
    with store.read() as connection:
        reopened = reopen_run(connection, run)
    kind = cast(PassKind, job.materialized)
    plan = plan_request(reopened, how.machine, kind, job.name, request)
    with store.write() as connection:
        pass_id = register_requested_pass(
            connection, run.run_id, kind, job.name, request.key, len(plan.examples)
        )
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined
