"""The Ray executor: pools of actors share one queue. An actor has one chunk at a time, with a GPU two.

Of the two, one has the GPU while the other waits for it, or is made into rows and returned. A worker that
dies takes both along, and nobody can say which was at fault. So a second attempt, after which an example may
be quarantined, has a worker for itself.

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
from math import inf
from typing import Any

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Work
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Failed, Lost
from attattr_batch.runtime.executors.ray_room import RoomWatch, filled, say_what_waits
from attattr_batch.runtime.executors.ray_session import first_line, last_line, ray_session, stdout_to_stderr
from attattr_batch.runtime.executors.ray_workers import Actor, Call, PoolState, RayWorker, Step, pick, places
from attattr_batch.runtime.staging import Stage
from attattr_batch.spec import WorkerPool

log = logging.getLogger(__name__)

_AT_ONCE, _EXAMPLES_AT_ONCE = 32, 2048  # results fetched together; bounds the driver's memory
_FAILED_STARTS = 3  # of every pool, in a row, after which a run without workers ends
_START_S = 1200.0  # a worker may have to fetch its model


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
        self._waiting: dict[Any, Call] = {}  # by the reference of the answer
        self._idle: list[RayWorker] = []  # once for every chunk that a worker has room for
        self._held: list[Chunk] = []
        with ExitStack() as resources:
            resources.enter_context(stdout_to_stderr())
            cpus = sum(pool.count * pool.cpus for _, pool in pools)
            gpu_workers = sum(pool.count for _, pool in pools if pool.gpus)
            self._ray = resources.enter_context(ray_session(cpus, address, gpu_workers))
            if fill:
                pools = [(work, filled(pool, self._ray.cluster_resources())) for work, pool in pools]
            self._resources = resources.pop_all()
        shapes = [pool for _, pool in pools]
        if address is not None:
            say_what_waits(shapes, self._ray.cluster_resources())
        log.info("computing on Ray with %s", "; ".join(map(str, shapes)))
        self._pools = [PoolState(self._ray.put(work), pool, pool.count) for work, pool in pools]
        self._room = RoomWatch(self._ray, shapes)
        self._start_missing()

    def room(self) -> bool:
        """Whether a started worker can have another chunk."""
        return bool(self._idle)

    def submit(self, chunk: Chunk) -> None:
        """Hands the chunk to an idle worker that has not failed it; a second attempt to one without others.

        Before a second attempt that worker must answer: a machine that dies takes its idle workers along,
        unseen, and each would cost the chunk an attempt.
        """
        worker = pick(chunk, self._idle, self._with_chunks())
        if worker is None:
            self._held.append(chunk)
        elif not chunk.attempt:
            self._idle.remove(worker)
            self._compute(worker, chunk)
        else:
            self._set_aside(worker)
            if worker.busy:
                worker.alone = chunk
            else:
                self._ping(worker, chunk)

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
        answers, examples = [], 0
        for reference in ready:
            call = self._waiting.pop(reference)
            answers.append(self._answered(call, reference))
            examples += len(call.chunk.examples) if call.chunk else 0
            if examples >= _EXAMPLES_AT_ONCE:
                break
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
            for _ in range(pool.take_due(now)):
                self._place(pool)

    def _place(self, pool: PoolState) -> None:
        options = {"num_cpus": pool.shape.cpus, "num_gpus": pool.shape.gpus}
        options |= {"max_concurrency": places(pool.shape), "max_restarts": 0, "max_task_retries": 0}
        actor = self._ray.remote(Actor).options(**options)
        worker = RayWorker(pool, actor.remote(pool.work, self._stage))
        self._ask(worker, Step.place, worker.actor.name.remote(), inf)

    def _ask(
        self, worker: RayWorker, step: Step, reference: Any, allowed_s: float, chunk: Chunk | None = None
    ) -> None:
        self._waiting[reference] = Call(worker, step, chunk, allowed_s, time.monotonic() + allowed_s)

    def _ping(self, worker: RayWorker, chunk: Chunk) -> None:
        self._ask(worker, Step.ping, worker.actor.name.remote(), self._deadline_s, chunk)

    def _compute(self, worker: RayWorker, chunk: Chunk) -> None:
        """Has the worker compute a chunk, for which it has as much longer as it has other chunks."""
        worker.busy += 1
        reference = worker.actor.compute.remote(chunk)
        self._ask(worker, Step.compute, reference, self._deadline_s * worker.busy, chunk)

    def _set_aside(self, worker: RayWorker) -> None:
        """Sees to it that the worker gets no other chunk."""
        self._idle = [one for one in self._idle if one is not worker]

    def _answered(self, call: Call, reference: Any) -> ChunkOutcome | None:
        """Has a worker take its next step; returns what came of its chunk, if it had one."""
        worker = call.worker
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError | TerminalError):
                raise cause from error
            starting = call.step in (Step.place, Step.start)
            return self._lost(call, last_line(error) if starting else first_line(error))
        if call.step is Step.compute:
            return self._computed(worker, answer)
        if worker.killed:
            return self._lost(call, "its answer crossed its end")
        match call.step:
            case Step.place:
                worker.name = answer
                self._ask(worker, Step.start, worker.actor.start.remote(), _START_S)
            case Step.start if answer:
                worker.pool.failed_starts, worker.pool.start_at = 0, 0.0
                self._idle += [worker] * places(worker.pool.shape)
            case Step.start:
                self._ask(worker, Step.start, worker.actor.start.remote(self._shipped_files()), _START_S)
            case Step.ping:
                assert call.chunk is not None
                self._compute(worker, call.chunk)
        return None

    def _computed(self, worker: RayWorker, outcome: ChunkOutcome) -> ChunkOutcome:
        """Lets the worker have more, or replaces it: if it lost its GPU, or if its answer crossed its end."""
        worker.busy -= 1
        if isinstance(outcome, Lost):
            self._kill(worker, outcome.message)
        elif isinstance(outcome, Failed):
            worker.failed.update(outcome.chunk.example_ids)
        if worker.killed:
            self._replace(worker)
        elif worker.alone is None:
            self._idle += [worker] * (places(worker.pool.shape) if outcome.chunk.attempt else 1)
        elif not worker.busy:
            chunk, worker.alone = worker.alone, None
            self._ping(worker, chunk)
        return outcome

    def _lost(self, call: Call, message: str) -> Lost | None:
        """Replaces a worker that has died or was killed; only chunks that it computed are lost with it."""
        worker = call.worker
        message = worker.killed or message
        if call.step in (Step.place, Step.start):
            self._failed_start(worker, message)
            return None
        self._replace(worker)
        assert call.chunk is not None
        if call.step is Step.compute:
            return Lost(call.chunk, message, worker.name)
        log.info("%s died while it was idle: %s", worker.name, message)
        self._held.append(call.chunk)
        return None

    def _replace(self, worker: RayWorker) -> None:
        """Asks for another worker in the place of one that has ended, however many chunks it had."""
        self._set_aside(worker)
        if worker.alone is not None:
            self._held.append(worker.alone)
            worker.alone = None
        if not worker.replaced:
            worker.replaced = True
            worker.pool.missing += 1

    def _failed_start(self, worker: RayWorker, message: str) -> None:
        """Has another worker of the pool tried later; ends a run that gets none at all."""
        pool = worker.pool
        pause = pool.failed(time.monotonic())
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
        return [call.worker for call in self._waiting.values() if call.step in steps]

    def _with_chunks(self) -> list[RayWorker]:
        return self._at(Step.ping, Step.compute)

    def _kill(self, worker: RayWorker, why: str) -> None:
        worker.killed = worker.killed or why
        self._set_aside(worker)
        self._ray.kill(worker.actor)

    def _kill_overdue(self) -> None:
        """Kills workers that hang; each then shows up as one that has died.

        An answer may have lain here since before the deadline, while the driver waited for the store.
        """
        now = time.monotonic()
        overdue = [
            ref for ref, call in self._waiting.items() if now > call.deadline and not call.worker.killed
        ]
        if not overdue:
            return
        # An answer on another machine counts without being fetched first.
        _, hanging = self._ray.wait(overdue, num_returns=len(overdue), timeout=0, fetch_local=False)
        for call in (self._waiting[reference] for reference in hanging):
            self._kill(call.worker, f"no answer within {call.allowed_s:g} s, so it was killed")

    def _mind_the_wait(self) -> None:
        if self._idle or self._with_chunks():
            self._room.worked()
        # A worker that starts has a deadline, and one that failed to start was reported.
        elif self._waiting and not self._at(Step.start):
            self._room.waits()
