"""Runs the model passes that a job requests. Imports torch, so import it only when answers are missing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from attattr_batch.analysis.catalogue import Job
from attattr_batch.passes.reopening import plan_request, reopen_run
from attattr_batch.passes.requests import Request
from attattr_batch.runtime.execution import ExecutionSettings, complete_pass
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import register_requested_pass


def answer_request(
    store: Store, job: Job, run: Row[Any], request: Request[Any], how: ExecutionSettings
) -> int:
    """Has what a job requests of one run computed, or the rest of it.

    Args:
        store: The store.
        job: The job.
        run: The run.
        request: What the job requests of it.
        how: Where to compute, and whom to tell.

    Returns:
        How many examples are quarantined.

    Raises:
        ModelGoneError: the run's model is gone or changed.
        UserError: the request names examples that the run lacks, or no worker can start.
        TerminalError: no example can be answered.
    """
    with store.read() as connection:
        reopened = reopen_run(connection, run)
    plan = plan_request(reopened, how.machine, job.pass_kind, job.name, request)
    with store.write() as connection:
        pass_id = register_requested_pass(
            connection, run.run_id, job.pass_kind, job.name, request.key, len(plan.examples)
        )
    return complete_pass(store, pass_id, f"{job.name}, {run.name}", plan, how).quarantined
