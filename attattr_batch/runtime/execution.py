"""Executing one pass: what is pending, where to compute it, and sealing it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from attattr_batch.engine.models import gpu_names
from attattr_batch.errors import UserError
from attattr_batch.passes import ModelWork
from attattr_batch.records import Chunk
from attattr_batch.runtime.driver import Driver, Progress, Reporter
from attattr_batch.runtime.executors import Executor
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.spec import RunSpec
from attattr_batch.store.connection import Store

log = logging.getLogger(__name__)

_LONG_S = 120.0
_COMMIT_WAIT_S = 600.0  # a long query or export holds the file; hours of work should outlast it
_FLOP_PER_S_PER_CPU = 5e10


def execute_pass(
    store: Store,
    pass_id: int,
    work: tuple[ModelWork, Sequence[Chunk], float],
    spec: RunSpec,
    progress: Progress,
    report: Reporter,
) -> None:
    """Computes and commits the chunks of a registered pass.

    Args:
        store: Where results go.
        pass_id: The pass.
        work: What workers need, the chunks, and their estimated arithmetic in FLOP.
        spec: Says where to compute.
        progress: Where the pass stands; kept up to date.
        report: Called after every commit.

    Raises:
        UserError: no worker can start, or the store cannot be written. What is committed stays.
    """
    settings, chunks, flop = work
    if not chunks:
        return
    patient = Store(store.path, timeout_s=max(store.timeout_s, _COMMIT_WAIT_S))
    with closing(choose_executor(spec, settings, len(chunks), flop)) as executor:
        Driver(patient, pass_id, executor, report).execute(chunks, progress)


def choose_executor(spec: RunSpec, work: ModelWork, n_chunks: int, flop: float) -> Executor:
    """Picks where to compute: here, or with Ray when that pays (its start alone takes ten seconds).

    Args:
        spec: Says what was asked for.
        work: What workers need.
        n_chunks: Chunks to compute.
        flop: Estimated arithmetic of all chunks.

    Raises:
        UserError: the settings contradict each other, or the cluster cannot be used.
    """
    cpus, gpus = os.cpu_count() or 1, len(gpu_names()) if work.device == "cuda" else 0
    if spec.executor == "local":
        if spec.address is not None or (spec.workers or 1) > 1:
            raise UserError(
                "the local executor has one worker, in this process",
                got=f"workers {spec.workers}, address {spec.address}",
                hint="use `--executor ray`",
            )
        return LocalExecutor(work)
    asked = spec.executor == "ray" or spec.address is not None or (spec.workers or 1) > 1
    fits = gpus > 1 or (gpus == 0 and cpus >= 4 and flop / (_FLOP_PER_S_PER_CPU * cpus) > _LONG_S)
    if not asked and not fits:
        return LocalExecutor(work)
    from attattr_batch.runtime.executors.ray import Pool, RayExecutor

    workers = min(spec.workers or gpus or max(1, cpus // 2), n_chunks)
    each = 1 if spec.address is not None else max(1, cpus // workers)
    pool = Pool(workers, cpus=each, gpus=1.0 if work.device == "cuda" else 0.0, address=spec.address)
    log.info("starting Ray with %d workers of %d CPUs", workers, each)
    return RayExecutor(replace(work, threads=each), pool)
