"""Completing one pass: what of it is pending, where that is computed, and sealing it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from attattr_batch.data.records import Chunk
from attattr_batch.engine.devices import gpu_names
from attattr_batch.passes.model_work import ModelWork, Plan
from attattr_batch.passes.planning import default_batch_tokens
from attattr_batch.runtime.cpus import usable_cpus
from attattr_batch.runtime.driver import Driver, Progress, Reporter
from attattr_batch.runtime.executors import Executor
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.staging import Stage, StagedExecutor, StagedWork, recover
from attattr_batch.spec import Machine
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import (
    QuarantinedExample,
    pending_ids,
    quarantine_examples,
    quarantined_ids,
    retry_quarantined,
    seal_pass,
)

log = logging.getLogger(__name__)

_LONG_S = 120.0
_FLOP_PER_S_PER_CPU = 5e10


@dataclass(frozen=True)
class ExecutionSettings:
    """How a pass is computed.

    Attributes:
        machine: Where; the plan was made for it.
        report: Told after every commit how far the pass is.
        retry_errors: Whether to try quarantined examples again.
    """

    machine: Machine
    report: Reporter
    retry_errors: bool = False


@dataclass(frozen=True)
class PendingWork:
    """What there is to compute.

    Attributes:
        work: What workers need.
        chunks: The chunks.
        flop: Their estimated arithmetic.
        cpu_batch_tokens: Tokens at once for workers that get no GPU where others do.
    """

    work: ModelWork
    chunks: Sequence[Chunk]
    flop: float
    cpu_batch_tokens: int


def complete_pass(store: Store, pass_id: int, title: str, plan: Plan, how: ExecutionSettings) -> Progress:
    """Computes and commits what is pending of a registered pass, and seals it; a sealed one stays as it is.

    Args:
        store: Where results go.
        pass_id: The pass.
        title: What it is, for people.
        plan: What it computes.
        how: Where to compute, and whom to tell.

    Raises:
        UserError: no worker can start, or the store cannot be written. What is committed stays.
        TerminalError: no example can be computed, or the model's outputs are not what they must be.
    """
    example_ids = plan.example_ids
    with store.write() as connection:
        if how.retry_errors:
            retry_quarantined(connection, pass_id, plan.unfit)
        pending = pending_ids(connection, pass_id, example_ids)
        failed = len(quarantined_ids(connection, pass_id))
    store = store.patient()
    total = len(example_ids)
    progress = Progress(total, total - len(pending) - failed, failed, title=title)
    unfit = [one for one in pending if one in plan.unfit]
    if unfit:
        reasons = [
            QuarantinedExample(example_id=one, kind="UnfitExample", message=plan.unfit[one], attempts=0)
            for one in unfit
        ]
        quarantine_examples(store, pass_id, reasons)
        progress.quarantine(len(unfit))
    if len(pending) > len(unfit):
        chunks = plan.chunks([one for one in pending if one not in plan.unfit])
        cpu_tokens = how.machine.batch_tokens or default_batch_tokens("cpu", plan.hidden_size)
        load = PendingWork(plan.work, chunks, plan.flop(chunks), cpu_tokens)
        _execute(store, pass_id, load, progress, how)
    seal_pass(store, pass_id)
    return progress


def _execute(
    store: Store, pass_id: int, load: PendingWork, progress: Progress, how: ExecutionSettings
) -> None:
    uri = how.machine.stage
    stage = None if uri is None else Stage.of(uri, pass_id, store)
    if stage is not None:
        load = _without_recovered(store, pass_id, stage, load, progress)
    if load.chunks:
        with closing(choose_executor(how.machine, load, stage)) as executor:
            Driver(store, pass_id, executor, how.report).execute(load.chunks, progress)
    if stage is not None:
        stage.close()


def _without_recovered(
    store: Store, pass_id: int, stage: Stage, load: PendingWork, progress: Progress
) -> PendingWork:
    """Registers what was staged for an earlier driver; returns what is left to compute."""
    examples = [one for chunk in load.chunks for one in chunk.examples]
    left = set(recover(store, pass_id, stage, [one.example_id for one in examples]))
    progress.newly_committed += len(examples) - len(left)
    progress.committed += len(examples) - len(left)
    kept = [tuple(one for one in chunk.examples if one.example_id in left) for chunk in load.chunks]
    return replace(load, chunks=[Chunk(examples) for examples in kept if examples])


def choose_executor(machine: Machine, load: PendingWork, stage: Stage | None = None) -> Executor:
    """Picks where to compute: here, or with Ray when that pays (its start alone takes ten seconds).

    Raises:
        UserError: the cluster cannot be used.
    """
    cpus, gpus = usable_cpus(), len(gpu_names()) if load.work.device == "cuda" else 0
    fits = gpus > 1 or (gpus == 0 and cpus >= 4 and load.flop / (_FLOP_PER_S_PER_CPU * cpus) > _LONG_S)
    if machine.executor == "local" or not (machine.needs_ray or fits or machine.executor == "ray"):
        return LocalExecutor(load.work)
    from attattr_batch.runtime.executors.ray import RayExecutor

    shapes = [(_work_in(load, pool), pool) for pool in _pools(machine, load, cpus, gpus)]
    if stage is None:
        return RayExecutor(shapes, machine.address, machine.chunk_deadline)
    staged = [(StagedWork(work, stage), pool) for work, pool in shapes]
    return StagedExecutor(RayExecutor(staged, machine.address, machine.chunk_deadline), stage)


def _pools(machine: Machine, load: PendingWork, cpus: int, gpus: int) -> list[Pool]:
    """The pools asked for, or one that fits this machine or the cluster; never more workers than chunks."""
    most = len(load.chunks)
    if isinstance(machine.workers, list):
        return [Pool(min(one.count, most), one.cpus, one.gpus) for one in machine.workers]
    each_gpus = 1.0 if load.work.device == "cuda" else 0.0
    if machine.address is not None:  # what is here says nothing about what is there
        return [Pool(min(machine.workers or most, most), 1, each_gpus, fitted=machine.workers is None)]
    workers = min(machine.workers or gpus or max(1, cpus // 2), most)
    return [Pool(workers, max(1, cpus // workers), each_gpus)]


def _work_in(load: PendingWork, pool: Pool) -> ModelWork:
    """The work as a worker of the pool does it: without a GPU on its CPUs, in smaller batches."""
    work = replace(load.work, threads=pool.cpus)
    return work if pool.gpus or work.device == "cpu" else work.on_cpu(load.cpu_batch_tokens)
