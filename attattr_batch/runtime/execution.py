"""Completing one pass: find what is pending, choose where to compute it, and seal the pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from attattr_batch.data.records import Chunk
from attattr_batch.engine.devices import default_batch_tokens, gpu_names
from attattr_batch.passes.model_work import ModelWork, Plan
from attattr_batch.runtime.cpus import usable_cpus
from attattr_batch.runtime.driver import Driver, Progress, Reporter
from attattr_batch.runtime.executors.local import LocalExecutor, LocalGpuExecutor
from attattr_batch.runtime.executors.outcomes import Executor
from attattr_batch.runtime.staging import Stage, recover
from attattr_batch.spec import MachineSettings, WorkerPool
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import quarantine
from attattr_batch.store.writing.passes import (
    QuarantinedExample,
    count_examples,
    pending_ids,
    quarantine_examples,
    retry_quarantined,
    seal_pass,
)

_LONG_S = 120.0
_FLOP_PER_S_PER_CPU = 5e10
_MOST_WORKERS = 4096


@dataclass(frozen=True)
class ExecutionSettings:
    """How a pass is computed.

    Attributes:
        machine: Where; the plan was made for it.
        report: Told after every commit how far the pass is.
        retry_errors: Whether to try quarantined examples again.
    """

    machine: MachineSettings
    report: Reporter
    retry_errors: bool = False


def complete_pass(
    store: Store, pass_id: int, title: str, plan: Plan, settings: ExecutionSettings
) -> Progress:
    """Computes and commits what is pending of a registered pass, and seals it; a sealed one stays as it is.

    Args:
        store: Where results go.
        pass_id: The pass.
        title: What the pass is, for people.
        plan: What it computes.
        settings: Where to compute, and whom to tell.

    Raises:
        UserError: no worker can start, or the store cannot be written. What is committed stays.
        TerminalError: no example can be computed, or the model's outputs are not what they must be.
    """
    with store.write() as connection:
        if settings.retry_errors:
            retry_quarantined(connection, pass_id, plan.unfit)
        pending = pending_ids(connection, pass_id, plan.example_ids)
        quarantined = count_examples(connection, quarantine, pass_id)
    store = store.patient()
    total = len(plan.example_ids)
    progress = Progress(total, total - len(pending) - quarantined, quarantined, title=title)
    unfit = [
        QuarantinedExample(example_id=one, error="UnfitExample", message=plan.unfit[one], attempts=0)
        for one in pending
        if one in plan.unfit
    ]
    if unfit:
        quarantine_examples(store, pass_id, unfit)
        progress.quarantine(len(unfit))
    pending = [one for one in pending if one not in plan.unfit]
    uri = settings.machine.stage
    stage = None if uri is None or not pending else Stage.of(uri, pass_id, store)
    if stage is not None:
        left = recover(store, pass_id, stage, pending)
        progress.commit(len(pending) - len(left), newly=len(pending) - len(left))
        pending = left
    if chunks := plan.chunks(pending):
        with closing(choose_executor(settings.machine, plan, chunks, stage)) as executor:
            Driver(store, pass_id, executor, settings.report, stage).execute(chunks, progress)
    if stage is not None:
        stage.delete()
    seal_pass(store, pass_id)
    return progress


def choose_executor(
    machine: MachineSettings, plan: Plan, chunks: Sequence[Chunk], stage: Stage | None = None
) -> Executor:
    """Picks where to compute: in this process, or with Ray if that pays (its start alone takes ten seconds).

    Raises:
        UserError: the cluster cannot be used.
    """
    cpus, gpus = usable_cpus(), len(gpu_names()) if plan.work.device == "cuda" else 0
    long = plan.flop(chunks) / (_FLOP_PER_S_PER_CPU * cpus) > _LONG_S
    pays = gpus > 1 or (gpus == 0 and cpus >= 4 and long)
    if machine.executor == "local" or not (machine.needs_ray or pays or machine.executor == "ray"):
        here = LocalGpuExecutor if plan.work.device == "cuda" else LocalExecutor
        return here(plan.work, stage)
    from attattr_batch.runtime.executors.ray import RayExecutor

    shapes = _pools(machine, plan.work.device, len(chunks), gpus or max(1, cpus // 2), cpus)
    pools = [(_work_in(pool, plan, machine), pool) for pool in shapes]
    fill = machine.workers is None and machine.address is not None
    return RayExecutor(pools, machine.address, machine.chunk_deadline, fill=fill, stage=stage)


def _pools(machine: MachineSettings, device: str, most: int, here: int, cpus: int) -> list[WorkerPool]:
    """The pools asked for, or one that fits this machine or the cluster; never more workers than chunks."""
    if isinstance(machine.workers, list):
        return [pool.model_copy(update={"count": min(pool.count, most)}) for pool in machine.workers]
    gpus = 1.0 if device == "cuda" else 0.0
    if machine.address is not None:  # this machine says nothing about the cluster
        return [WorkerPool(count=min(machine.workers or _MOST_WORKERS, most), gpus=gpus)]
    count = min(machine.workers or here, most)
    return [WorkerPool(count=count, cpus=max(1, cpus // count), gpus=gpus)]


def _work_in(pool: WorkerPool, plan: Plan, machine: MachineSettings) -> ModelWork:
    """The work as a worker of the pool does it: batches are smaller on its CPUs and on a part of a GPU."""
    work = replace(plan.work, threads=pool.cpus)
    if work.device == "cpu":
        return work
    if pool.gpus:
        share = 1.0 if machine.batch_tokens else min(1.0, pool.gpus)
        return replace(work, batch_tokens=int(work.batch_tokens * share))
    batch_tokens = machine.batch_tokens or default_batch_tokens("cpu", plan.hidden_size)
    return replace(work, device="cpu", batch_tokens=batch_tokens)
