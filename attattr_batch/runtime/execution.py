"""Executing one pass: what is pending, where to compute it, and sealing it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from attattr_batch.engine.models import gpu_names
from attattr_batch.errors import UserError
from attattr_batch.passes import ModelWork, Work
from attattr_batch.records import Chunk
from attattr_batch.runtime.driver import Driver, Progress, Reporter
from attattr_batch.runtime.executors import Executor
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.staging import Stage, StagedExecutor, StagedWork, recover
from attattr_batch.spec import RunSpec
from attattr_batch.store.connection import Store

log = logging.getLogger(__name__)

_LONG_S = 120.0
_COMMIT_WAIT_S = 600.0  # a long query or export holds the file; hours of work should outlast it
_FLOP_PER_S_PER_CPU = 5e10


@dataclass(frozen=True)
class Load:
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


def execute_pass(
    store: Store, pass_id: int, load: Load, spec: RunSpec, progress: Progress, report: Reporter
) -> None:
    """Computes and commits the chunks of a registered pass.

    Args:
        store: Where results go.
        pass_id: The pass.
        load: What to compute.
        spec: Says where to compute.
        progress: Where the pass stands; kept up to date.
        report: Called after every commit.

    Raises:
        UserError: no worker can start, or the store cannot be written. What is committed stays.
    """
    if not load.chunks:
        return
    patient = Store(store.path, timeout_s=max(store.timeout_s, _COMMIT_WAIT_S))
    stage = None if spec.stage is None else Stage.of(spec.stage, pass_id, store)
    if stage is not None:
        load = _without_recovered(patient, pass_id, stage, load, progress)
    if load.chunks:
        with closing(choose_executor(spec, load, stage)) as executor:
            Driver(patient, pass_id, executor, report).execute(load.chunks, progress)
    if stage is not None:
        stage.close()


def _without_recovered(store: Store, pass_id: int, stage: Stage, load: Load, progress: Progress) -> Load:
    """Registers what was staged for an earlier driver; returns what is left to compute."""
    examples = [one for chunk in load.chunks for one in chunk.examples]
    left = set(recover(store, pass_id, stage, [one.example_id for one in examples]))
    progress.done += len(examples) - len(left)
    kept = [tuple(one for one in chunk.examples if one.example_id in left) for chunk in load.chunks]
    return replace(load, chunks=[Chunk(examples) for examples in kept if examples])


def choose_executor(spec: RunSpec, load: Load, stage: Stage | None = None) -> Executor:
    """Picks where to compute: here, or with Ray when that pays (its start alone takes ten seconds).

    Raises:
        UserError: the settings contradict each other, or the cluster cannot be used.
    """
    n_workers = spec.n_workers or 1
    cpus, gpus = os.cpu_count() or 1, len(gpu_names()) if load.work.device == "cuda" else 0
    if spec.executor == "local":
        if spec.address is not None or n_workers > 1 or stage is not None:
            raise UserError(
                "the local executor has one worker, in this process",
                got=f"workers {spec.workers}, address {spec.address}, stage {spec.stage}",
                hint="use `--executor ray`",
            )
        return LocalExecutor(load.work)
    asked = spec.executor == "ray" or spec.address is not None or n_workers > 1 or stage is not None
    fits = gpus > 1 or (gpus == 0 and cpus >= 4 and load.flop / (_FLOP_PER_S_PER_CPU * cpus) > _LONG_S)
    if not asked and not fits:
        return LocalExecutor(load.work)
    from attattr_batch.runtime.executors.ray import RayExecutor

    shapes = _worker_shapes(spec, load, (cpus, gpus))
    log.info(
        "starting Ray with %s", ", ".join(f"{p.workers} x {p.cpus} CPUs, {p.gpus:g} GPUs" for _, p in shapes)
    )
    if stage is None:
        return RayExecutor(shapes, spec.address, spec.chunk_deadline)
    staged = [(StagedWork(work, stage), pool) for work, pool in shapes]
    return StagedExecutor(RayExecutor(staged, spec.address, spec.chunk_deadline), stage)


def _worker_shapes(spec: RunSpec, load: Load, here: tuple[int, int]) -> list[tuple[Work, Pool]]:
    """The pools asked for, or one that fits CPUs and GPUs here; never more workers than chunks."""
    cpus, gpus = here
    if isinstance(spec.workers, list):
        pools = [Pool(min(one.count, len(load.chunks)), one.cpus, one.gpus) for one in spec.workers]
    else:
        workers = min(spec.workers or gpus or max(1, cpus // 2), len(load.chunks))
        each = 1 if spec.address is not None else max(1, cpus // workers)
        pools = [Pool(workers, each, 1.0 if load.work.device == "cuda" else 0.0)]
    return [(_work_in(load, pool), pool) for pool in pools]


def _work_in(load: Load, pool: Pool) -> ModelWork:
    """The work as a worker of the pool does it: without a GPU on its CPUs, in smaller batches."""
    work = replace(load.work, threads=pool.cpus)
    return work if pool.gpus or work.device == "cpu" else work.on_cpu(load.cpu_batch_tokens)
