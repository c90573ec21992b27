"""The Ray executor: pools of actors, one queue, one chunk in flight an actor.

Actors never restart or retry by themselves: the driver decides what is computed again. All are asked for at
the start: those that find no room wait, show an autoscaler what is wanted, and join when a machine does.
Where they fail to start (a broken machine or installation), one of the pool tries again after ever longer
pauses, and the others follow when it has started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Portable, Work
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Failed, Lost
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.executors.ray_actor import Actor, Started
from attattr_batch.runtime.executors.ray_handles import PoolState, RayWorker, pick
from attattr_batch.runtime.executors.ray_session import (
    first_line,
    last_line,
    ray_session,
    stdout_to_stderr,
)

log = logging.getLogger(__name__)

_AT_ONCE = 32  # results fetched together; bounds the driver's memory
_FAILED_STARTS = 3  # of every pool, in a row, after which a run without workers ends
_PAUSES_S = (2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_START_S = 1200.0  # a worker may have to fetch its model
_NO_WORKER_S = 60.0
_GIVE_UP_S = 1200.0  # an autoscaler may have to fetch a machine, and the machine an image
_DEADLINE_S = 3600.0


class RayExecutor:
    """Actors on a Ray cluster: on this machine, or at an address.

    Args:
        shapes: What the workers of each pool do.
        address: A running cluster, or None for one of our own on this machine.
        deadline_s: How long a worker may take for one chunk, in seconds, before it is killed and replaced.

    Raises:
        UserError: the cluster cannot be reached or used.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[Work, Pool]],
        address: str | None = None,
        deadline_s: float = _DEADLINE_S,
    ):
        self._deadline_s = deadline_s
        self._resources = ExitStack()
        self._resources.enter_context(stdout_to_stderr())
        try:
            self._ray = self._resources.enter_context(ray_session([pool for _, pool in shapes], address))
            resources = self._ray.cluster_resources()
            fitted = [pool.fit(resources) for _, pool in shapes]
        except BaseException:
            self._resources.close()
            raise
        log.info("computing on Ray with %s", "; ".join(map(str, fitted)))
        works = [work for work, _ in shapes]
        self._shapes = [
            PoolState(self._ray.put(work), pool, pool.workers)
            for work, pool in zip(works, fitted, strict=True)
        ]
        self._portable = next((work for work in works if isinstance(work, Portable)), None)
        self._files: Any = None
        self._placing: dict[Any, RayWorker] = {}
        self._starting: dict[Any, RayWorker] = {}
        self._idle: list[RayWorker] = []
        self._asked: dict[Any, tuple[RayWorker, Chunk]] = {}
        self._busy: dict[Any, tuple[RayWorker, Chunk]] = {}
        self._held: list[Chunk] = []
        self._began_at = self._worked_at = time.monotonic()
        self._ever_worked = False
        self._start_missing()

    def room(self) -> bool:
        """Whether a started worker is idle."""
        return bool(self._idle)

    def submit(self, chunk: Chunk) -> None:
        """Hands the chunk to an idle worker that has not failed it; a second attempt once that answers.

        A machine that dies takes its idle workers along, unseen: each would cost the chunk an attempt.
        """
        working = [handle for handle, _ in [*self._asked.values(), *self._busy.values()]]
        handle = pick(chunk, self._idle, working)
        if handle is None:
            self._held.append(chunk)
            return
        self._idle.remove(handle)
        handle.deadline = time.monotonic() + self._deadline_s
        if chunk.attempt:
            self._asked[handle.actor.name.remote()] = (handle, chunk)
        else:
            self._compute(handle, chunk)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Waits for workers to start, to finish, or to die.

        Raises:
            UserError: no worker can start, or none has found room for twenty minutes.
        """
        self._start_missing()
        waiting = [*self._placing, *self._starting, *self._asked, *self._busy]
        if not waiting:  # all pause
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        # Take what is ready, oldest first, or one fast worker could keep the others waiting.
        more, _ = self._ray.wait(waiting, num_returns=min(len(waiting), _AT_ONCE), timeout=0)
        outcomes: list[ChunkOutcome] = []
        for reference in dict.fromkeys([*ready, *more]):
            if reference in self._placing:
                self._placed(reference)
            elif reference in self._starting:
                self._started(reference)
            elif reference in self._asked:
                self._answered(reference)
            else:
                outcomes.append(self._ended(reference))
        self._submit_held()
        self._kill_overdue()
        self._mind_the_wait()
        return outcomes

    def close(self) -> None:
        """Kills the workers and ends the session."""
        self._resources.close()

    def _start_missing(self) -> None:
        """Asks for the workers that are missing; of a pool whose last one failed, for one at a time."""
        now = time.monotonic()
        for shape in self._shapes:
            if shape.missing and now >= shape.start_at:
                count = 1 if shape.failed_starts else shape.missing
                shape.missing -= count
                shape.start_at = float("inf") if shape.failed_starts else 0.0
                for _ in range(count):
                    self._place_actor(shape)

    def _place_actor(self, shape: PoolState) -> None:
        pool = shape.pool
        options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_restarts": 0, "max_task_retries": 0}
        handle = RayWorker(shape, self._ray.remote(Actor).options(**options).remote(shape.work))
        self._placing[handle.actor.name.remote()] = handle

    def _placed(self, reference: Any) -> None:
        handle = self._placing.pop(reference)
        try:
            handle.name = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_start(handle, last_line(error))
            return
        self._start(handle)

    def _start(self, handle: RayWorker, *files: Any) -> None:
        handle.deadline = time.monotonic() + _START_S
        self._starting[handle.actor.start.remote(*files)] = handle

    def _started(self, reference: Any) -> None:
        handle = self._starting.pop(reference)
        late = f"not ready within {_START_S:g} s, so it was killed"
        try:
            started: Started = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_start(handle, late if handle.killed else last_line(error))
            return
        if started.problem is not None:
            raise UserError(started.problem)
        if handle.killed:
            self._failed_start(handle, late)
            return
        if started.lacks_files:
            self._start(handle, self._shipped_files())
            return
        handle.shape.failed_starts, handle.shape.start_at = 0, 0.0
        self._idle.append(handle)

    def _failed_start(self, handle: RayWorker, message: str) -> None:
        """Has another worker of the pool tried later; ends a run that gets none at all."""
        shape = handle.shape
        shape.missing += 1
        shape.failed_starts += 1
        pause = _PAUSES_S[min(shape.failed_starts, len(_PAUSES_S)) - 1]
        shape.start_at = time.monotonic() + pause
        hopeless = all(one.failed_starts >= _FAILED_STARTS for one in self._shapes)
        if hopeless and not (self._idle or self._asked or self._busy or self._starting):
            raise UserError(
                "workers fail to start",
                got=f"{shape.failed_starts} in a row, the last {handle.name}: {message}",
                hint="`attattr doctor --ray`; Ray's session folder on that machine holds the worker's log",
            )
        text = "%s failed to start (%s), number %d in a row; the next tries in %g s: %s"
        log.warning(text, handle.name, shape.pool, shape.failed_starts, pause, message)

    def _shipped_files(self) -> Any:
        """The work's files in Ray's object store, put there for the first worker that lacks them."""
        if self._files is None:
            assert self._portable is not None
            paths = self._portable.files()
            log.info("a machine lacks the model: sending %s", ", ".join(map(str, paths)))
            files = {path.name: path.read_bytes() for path in paths}
            self._files = self._ray.put(files)
        return self._files

    def _compute(self, handle: RayWorker, chunk: Chunk) -> None:
        handle.deadline = time.monotonic() + self._deadline_s
        self._busy[handle.actor.compute.remote(chunk)] = (handle, chunk)

    def _answered(self, reference: Any) -> None:
        """Hands a worker that lives its chunk; that of a dead one goes to another, at no charge."""
        handle, chunk = self._asked.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            log.info("%s died while it was idle: %s", handle.name, first_line(error))
            handle.killed = True
        if handle.killed:
            handle.shape.missing += 1
            self._held.append(chunk)
        else:
            self._compute(handle, chunk)

    def _submit_held(self) -> None:
        held, self._held = self._held, []
        for chunk in held:
            self.submit(chunk)

    def _ended(self, reference: Any) -> ChunkOutcome:
        handle, chunk = self._busy.pop(reference)
        try:
            outcome: ChunkOutcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._free(handle)
            cause = error.cause or error
            if isinstance(cause, UserError | TerminalError):
                raise cause from error
            return Failed(chunk, type(cause).__name__, str(cause), str(error), handle.name)
        except self._ray.exceptions.RayError as error:
            handle.shape.missing += 1
            late = f"no answer within {self._deadline_s:g} s, so it was killed"
            return Lost(chunk, late if handle.killed else first_line(error), handle.name)
        if isinstance(outcome, Failed):
            handle.failed.update(chunk.example_ids)
        elif isinstance(outcome, Lost):  # no more of this process, which still answers
            handle.killed = True
            self._ray.kill(handle.actor)
        self._free(handle)
        return outcome

    def _free(self, handle: RayWorker) -> None:
        """Makes a worker idle; one whose answer crossed its end is replaced."""
        if handle.killed:
            handle.shape.missing += 1
        else:
            self._idle.append(handle)

    def _kill_overdue(self) -> None:
        """Kills workers that hang; each then shows up as one that has died.

        An answer may have lain here since before the deadline, while the driver waited for its file.
        """
        now = time.monotonic()
        with_chunks = (self._asked | self._busy).items()
        handles = self._starting | {reference: handle for reference, (handle, _) in with_chunks}
        overdue = [one for one, handle in handles.items() if now > handle.deadline and not handle.killed]
        if not overdue:
            return
        # An answer on another machine counts without being fetched first.
        _, hanging = self._ray.wait(overdue, num_returns=len(overdue), timeout=0, fetch_local=False)
        for reference in hanging:
            handles[reference].killed = True
            self._ray.kill(handles[reference].actor)

    def _mind_the_wait(self) -> None:
        """Says where every worker waits for a machine, and gives up on one that never had any."""
        now = time.monotonic()
        if self._idle or self._asked or self._busy:
            self._ever_worked, self._worked_at = True, now
            return
        # A worker that starts has a deadline, and one that failed to was spoken of.
        if self._starting or not self._placing or now - self._worked_at < _NO_WORKER_S:
            return
        wanted, there = "; ".join(str(shape.pool) for shape in self._shapes), self._ray.cluster_resources()
        has = f"{there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs"
        if not self._ever_worked and now - self._began_at > _GIVE_UP_S:
            raise UserError(
                "the cluster has no room for any worker",
                got=f"{has} in all, after {_GIVE_UP_S / 60:g} minutes",
                allowed=f"room for one of {wanted}",
                hint="`workers` in the spec says what is asked for; `ray status` what there is",
            )
        log.warning("no worker runs: waiting for room for %s; the cluster has %s in all", wanted, has)
        self._worked_at = now
