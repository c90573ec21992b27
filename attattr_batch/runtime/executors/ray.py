"""The Ray executor: pools of actors share one queue, and each actor has one chunk at a time.

Actors never restart or retry by themselves: the driver decides what is computed again. All are asked for at
the start. Those that find no room wait, show an autoscaler what is wanted, and join when a machine does. If
one fails to start (a broken machine or installation), one of its pool tries again after ever longer pauses,
and the others follow when it has started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Work
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Failed, Lost
from attattr_batch.runtime.executors.ray_session import first_line, last_line, ray_session, stdout_to_stderr
from attattr_batch.runtime.executors.ray_workers import (
    Actor,
    PoolState,
    RayWorker,
    Step,
    filled,
    listed,
    pick,
)
from attattr_batch.runtime.staging import Stage
from attattr_batch.spec import WorkerPool

log = logging.getLogger(__name__)

_AT_ONCE = 32  # results fetched together; bounds the driver's memory
_FAILED_STARTS = 3  # of every pool, in a row, after which a run without workers ends
_LONGEST_PAUSE_S = 60.0
_START_S = 1200.0  # a worker may have to fetch its model
_NO_WORKER_S = 60.0
_GIVE_UP_S = 1200.0  # an autoscaler may have to fetch a machine, and the machine an image
_FOR_EVER_S = float("inf")


class RayExecutor:
    """Actors on a Ray cluster: on this machine, or at an address.

    Args:
        pools: What the workers of each pool do.
        address: A running cluster, or None for one of our own on this machine.
        deadline_s: How long a worker may take for one chunk, in seconds, before it is killed and replaced.
        fill: Whether to start no more workers than the cluster has room for now.
        stage: Where workers write rows instead of returning them.

    Raises:
        UserError: the cluster cannot be reached or used.
    """

    def __init__(
        self,
        pools: Sequence[tuple[Work, WorkerPool]],
        address: str | None = None,
        deadline_s: float = 3600.0,
        *,
        fill: bool = False,
        stage: Stage | None = None,
    ):
        self._deadline_s = deadline_s
        self._stage = stage
        self._work = pools[0][0]
        self._files: Any = None
        self._waiting: dict[Any, RayWorker] = {}  # by the reference of what each was asked for
        self._idle: list[RayWorker] = []
        self._held: list[Chunk] = []
        self._ever_worked = False
        with ExitStack() as resources:
            resources.enter_context(stdout_to_stderr())
            cpus = sum(pool.count * pool.cpus for _, pool in pools)
            self._ray = resources.enter_context(ray_session(cpus, address))
            if fill:
                pools = [(work, filled(pool, self._ray.cluster_resources())) for work, pool in pools]
            self._resources = resources.pop_all()
        log.info("computing on Ray with %s", "; ".join(str(pool) for _, pool in pools))
        self._pools = [PoolState(self._ray.put(work), pool, pool.count) for work, pool in pools]
        self._began_at = self._worked_at = time.monotonic()
        self._start_missing()

    def room(self) -> bool:
        """Whether a started worker is idle."""
        return bool(self._idle)

    def submit(self, chunk: Chunk) -> None:
        """Hands the chunk to an idle worker that has not failed it; a second attempt once that answers.

        A machine that dies takes its idle workers along, unseen: each would cost the chunk an attempt.
        """
        worker = pick(chunk, self._idle, self._with_chunks())
        if worker is None:
            self._held.append(chunk)
            return
        self._idle.remove(worker)
        worker.chunk = chunk
        if chunk.attempt:
            self._ask(worker, Step.ping, worker.actor.name.remote(), self._deadline_s)
        else:
            self._compute(worker)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Waits for workers to start, to finish, or to die.

        Raises:
            UserError: no worker can start, or none has found room for twenty minutes.
        """
        self._start_missing()
        if not self._waiting:  # all pause
            time.sleep(timeout_s)
            return []
        waiting = list(self._waiting)
        self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        # Take what is ready, oldest first, or one fast worker could keep the others waiting.
        ready, _ = self._ray.wait(waiting, num_returns=min(len(waiting), _AT_ONCE), timeout=0)
        answers = [self._answered(self._waiting.pop(reference), reference) for reference in ready]
        held, self._held = self._held, []
        for chunk in held:
            self.submit(chunk)
        self._kill_overdue()
        self._mind_the_wait()
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """Kills the workers and ends the session."""
        self._resources.close()

    def _start_missing(self) -> None:
        """Asks for the workers that are missing; only one at a time in a pool whose last one failed."""
        now = time.monotonic()
        for pool in self._pools:
            if pool.missing and now >= pool.start_at:
                count = 1 if pool.failed_starts else pool.missing
                pool.missing -= count
                pool.start_at = _FOR_EVER_S if pool.failed_starts else 0.0
                for _ in range(count):
                    self._place(pool)

    def _place(self, pool: PoolState) -> None:
        options = {"num_cpus": pool.shape.cpus, "num_gpus": pool.shape.gpus}
        actor = self._ray.remote(Actor).options(**options, max_restarts=0, max_task_retries=0)
        worker = RayWorker(pool, actor.remote(pool.work, self._stage))
        self._ask(worker, Step.place, worker.actor.name.remote(), _FOR_EVER_S)

    def _ask(self, worker: RayWorker, step: Step, reference: Any, allowed_s: float) -> None:
        worker.step, worker.allowed_s, worker.deadline = step, allowed_s, time.monotonic() + allowed_s
        self._waiting[reference] = worker

    def _compute(self, worker: RayWorker) -> None:
        self._ask(worker, Step.compute, worker.actor.compute.remote(worker.chunk), self._deadline_s)

    def _answered(self, worker: RayWorker, reference: Any) -> ChunkOutcome | None:
        """Has a worker take its next step; returns what came of its chunk, if it had one."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError | TerminalError):
                raise cause from error
            starting = worker.step in (Step.place, Step.start)
            return self._lost(worker, last_line(error) if starting else first_line(error))
        if worker.step is Step.compute:
            return self._computed(worker, answer)
        if worker.killed:
            return self._lost(worker, "its answer crossed its end")
        match worker.step:
            case Step.place:
                worker.name = answer
                self._ask(worker, Step.start, worker.actor.start.remote(), _START_S)
            case Step.start if answer:
                worker.pool.failed_starts, worker.pool.start_at = 0, 0.0
                self._idle.append(worker)
            case Step.start:
                self._ask(worker, Step.start, worker.actor.start.remote(self._shipped_files()), _START_S)
            case Step.ping:
                self._compute(worker)
        return None

    def _computed(self, worker: RayWorker, outcome: ChunkOutcome) -> ChunkOutcome:
        """Makes the worker idle, or replaces it: if it lost its GPU, or if its answer crossed its end."""
        if isinstance(outcome, Lost):
            self._kill(worker)
        elif isinstance(outcome, Failed):
            worker.failed.update(outcome.chunk.example_ids)
        if worker.killed:
            worker.pool.missing += 1
        else:
            self._idle.append(worker)
        return outcome

    def _lost(self, worker: RayWorker, message: str) -> Lost | None:
        """Replaces a worker that has died or was killed; only a chunk that it computed is lost with it."""
        if worker.killed:
            message = f"no answer within {worker.allowed_s:g} s, so it was killed"
        if worker.step in (Step.place, Step.start):
            self._failed_start(worker, message)
            return None
        worker.pool.missing += 1
        assert worker.chunk is not None
        if worker.step is Step.compute:
            return Lost(worker.chunk, message, worker.name)
        log.info("%s died while it was idle: %s", worker.name, message)
        self._held.append(worker.chunk)
        return None

    def _failed_start(self, worker: RayWorker, message: str) -> None:
        """Has another worker of the pool tried later; ends a run that gets none at all."""
        pool = worker.pool
        pool.missing += 1
        pool.failed_starts += 1
        pause = min(2.0 ** min(pool.failed_starts, 6), _LONGEST_PAUSE_S)
        pool.start_at = time.monotonic() + pause
        hopeless = all(one.failed_starts >= _FAILED_STARTS for one in self._pools)
        if hopeless and not (self._idle or self._with_chunks() or self._at(Step.start)):
            raise UserError(
                "workers fail to start",
                got=f"{pool.failed_starts} in a row, the last {worker.name}: {message}",
                hint="Ray's session folder on that machine holds the worker's log",
            )
        text = "%s failed to start (%s), number %d in a row; the next tries in %g s: %s"
        log.warning(text, worker.name, pool.shape, pool.failed_starts, pause, message)

    def _shipped_files(self) -> Any:
        """The work's files in Ray's object store, put there for the first worker that lacks them."""
        if self._files is None:
            paths = self._work.files()
            log.info("a machine lacks the model: sending %s", ", ".join(map(str, paths)))
            self._files = self._ray.put({path.name: path.read_bytes() for path in paths})
        return self._files

    def _at(self, *steps: Step) -> list[RayWorker]:
        return [worker for worker in self._waiting.values() if worker.step in steps]

    def _with_chunks(self) -> list[RayWorker]:
        return self._at(Step.ping, Step.compute)

    def _kill(self, worker: RayWorker) -> None:
        worker.killed = True
        self._ray.kill(worker.actor)

    def _kill_overdue(self) -> None:
        """Kills workers that hang; each then shows up as one that has died.

        An answer may have lain here since before the deadline, while the driver waited for the store.
        """
        now = time.monotonic()
        overdue = [
            one for one, worker in self._waiting.items() if now > worker.deadline and not worker.killed
        ]
        if not overdue:
            return
        # An answer on another machine counts without being fetched first.
        _, hanging = self._ray.wait(overdue, num_returns=len(overdue), timeout=0, fetch_local=False)
        for reference in hanging:
            self._kill(self._waiting[reference])

    def _mind_the_wait(self) -> None:
        """Says that every worker waits for a machine, and gives up if none ever had one."""
        now = time.monotonic()
        if self._idle or self._with_chunks():
            self._ever_worked, self._worked_at = True, now
            return
        # A worker that starts has a deadline, and one that failed to start was reported.
        if self._at(Step.start) or not self._waiting or now - self._worked_at < _NO_WORKER_S:
            return
        wanted = "; ".join(str(pool.shape) for pool in self._pools)
        there = listed(self._ray.cluster_resources())
        if not self._ever_worked and now - self._began_at > _GIVE_UP_S:
            raise UserError(
                "the cluster has no room for any worker",
                got=f"{there} in all, after {_GIVE_UP_S / 60:g} minutes",
                allowed=f"room for one of {wanted}",
                hint="`workers` in the spec says what is asked for; `ray status` what there is",
            )
        log.warning("no worker runs: waiting for room for %s; the cluster has %s in all", wanted, there)
        self._worked_at = now
