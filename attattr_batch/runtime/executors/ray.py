"""The Ray executor: pools of actors, one queue, one chunk in flight an actor.

Actors never restart or retry by themselves: the driver decides what is computed again. All are asked for at
the start: those that find no room wait, show an autoscaler what is wanted, and join when a machine does.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attattr_batch.errors import TerminalError, TransientError, UserError
from attattr_batch.passes import Portable, Work, Worker
from attattr_batch.records import Chunk
from attattr_batch.runtime.executors._base import Failed, Finished, Lost, Outcome, run_chunk
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.executors.ray_session import (
    first_line,
    last_line,
    ray_session,
    stdout_to_stderr,
)

log = logging.getLogger(__name__)

_AT_ONCE = 32  # results fetched together; bounds the driver's memory
_FAILED_STARTS = 3
_NO_WORKER_S = 60.0
_GIVE_UP_S = 1200.0  # an autoscaler may have to fetch a machine, and the machine an image
_DEADLINE_S = 3600.0


@dataclass(frozen=True)
class _Started:
    """How an actor's start went.

    Attributes:
        name: Host and process, for people.
        problem: Message of an error that no other worker would escape.
        lacks_files: Whether the machine lacks the work's folder.
    """

    name: str
    problem: str | None = None
    lacks_files: bool = False


class _Actor:
    """Lives in a Ray worker process; loads the model once."""

    def __init__(self, work: Work):
        self._work = work
        self._worker: Worker | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def start(self, files: Mapping[str, bytes] | None = None) -> _Started:
        """Loads the worker, from `files` where this machine lacks the work's folder."""
        work = self._work
        folder = work.folder() if isinstance(work, Portable) else None
        copy = None
        if isinstance(work, Portable) and folder is not None and not folder.is_dir():
            if files is None:
                return _Started(self._name, lacks_files=True)
            copy = Path(tempfile.mkdtemp(prefix="attattr-model-"))
            for name, content in files.items():
                (copy / name).write_bytes(content)
            work = work.moved(copy)
        try:
            self._worker = work.start()
        except UserError as error:
            return _Started(self._name, str(error))
        finally:
            if copy is not None:
                shutil.rmtree(copy, ignore_errors=True)  # the weights are in memory
        return _Started(self._name)

    def compute(self, chunk: Chunk) -> Finished | Failed:
        """Computes one chunk."""
        if self._worker is None:
            raise TransientError("the worker was handed a chunk before it was ready")
        return run_chunk(self._worker, chunk, self._name)


@dataclass
class _Handle:
    """The driver's side of an actor: its pool, its name once it has started, when it is given up."""

    shape: int
    actor: Any
    name: str = "a worker that has not started"
    deadline: float = float("inf")
    killed: bool = False


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
        except BaseException:
            self._resources.close()
            raise
        self._shapes = [(self._ray.put(work), pool) for work, pool in shapes]
        self._folder = next((work.folder() for work, _ in shapes if isinstance(work, Portable)), None)
        self._files: Any = None
        self._starting: dict[Any, _Handle] = {}
        self._idle: list[_Handle] = []
        self._busy: dict[Any, tuple[_Handle, Chunk]] = {}
        self._failed_starts = 0
        self._started_at = self._worked_at = time.monotonic()
        self._ever_worked = False
        for shape, (_, pool) in enumerate(self._shapes):
            for _ in range(pool.workers):
                self._start_actor(shape)

    def room(self) -> bool:
        """Whether a started worker is idle."""
        return bool(self._idle)

    def submit(self, chunk: Chunk) -> None:
        """Hands the chunk to an idle worker."""
        handle = self._idle.pop()
        handle.deadline = time.monotonic() + self._deadline_s
        self._busy[handle.actor.compute.remote(chunk)] = (handle, chunk)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Waits for workers to start, to finish, or to die.

        Raises:
            UserError: no worker can start, or none has found room for twenty minutes.
            TransientError: workers die again and again while starting.
        """
        self._kill_overdue()
        waiting = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        # Take what is ready, oldest first, or one fast worker could keep the others waiting.
        more, _ = self._ray.wait(waiting, num_returns=min(len(waiting), _AT_ONCE), timeout=0)
        outcomes: list[Outcome] = []
        for reference in dict.fromkeys([*ready, *more]):
            if reference in self._starting:
                self._started(reference)
            else:
                outcomes.append(self._ended(reference))
        self._mind_the_wait()
        return outcomes

    def close(self) -> None:
        """Kills the workers and ends the session."""
        self._resources.close()

    def _start_actor(self, shape: int) -> None:
        work, pool = self._shapes[shape]
        options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_restarts": 0, "max_task_retries": 0}
        handle = _Handle(shape, self._ray.remote(_Actor).options(**options).remote(work))
        self._starting[handle.actor.start.remote()] = handle

    def _started(self, reference: Any) -> None:
        handle = self._starting.pop(reference)
        try:
            started: _Started = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS and not (self._idle or self._busy):
                raise TransientError(f"workers die while they start: {last_line(error)}") from error
            self._start_actor(handle.shape)
            return
        if started.problem is not None:
            raise UserError(started.problem)
        if started.lacks_files:
            self._starting[handle.actor.start.remote(self._shipped_files())] = handle
            return
        self._failed_starts = 0
        handle.name = started.name
        self._idle.append(handle)

    def _shipped_files(self) -> Any:
        """The work's files in Ray's object store, put there for the first worker that lacks them."""
        if self._files is None:
            assert self._folder is not None
            files = {path.name: path.read_bytes() for path in self._folder.iterdir() if path.is_file()}
            log.info("a machine lacks %s: sending %d files to workers", self._folder, len(files))
            self._files = self._ray.put(files)
        return self._files

    def _ended(self, reference: Any) -> Outcome:
        handle, chunk = self._busy.pop(reference)
        try:
            outcome: Finished | Failed = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(handle)
            cause = error.cause or error
            if isinstance(cause, UserError | TerminalError):
                raise cause from error
            return Failed(chunk, type(cause).__name__, str(cause), str(error), handle.name)
        except self._ray.exceptions.RayError as error:
            self._start_actor(handle.shape)
            late = f"no answer within {self._deadline_s:g} s, so it was killed"
            return Lost(chunk, late if handle.killed else first_line(error), handle.name)
        self._idle.append(handle)
        return outcome

    def _kill_overdue(self) -> None:
        """Kills workers that hang; each then shows up as one that has died."""
        now = time.monotonic()
        for handle, _ in self._busy.values():
            if now > handle.deadline and not handle.killed:
                handle.killed = True
                self._ray.kill(handle.actor)

    def _mind_the_wait(self) -> None:
        """Says where every worker waits for a machine, and gives up on one that never had any."""
        now = time.monotonic()
        if self._idle or self._busy:
            self._ever_worked, self._worked_at = True, now
            return
        if now - self._worked_at < _NO_WORKER_S:
            return
        pools = (f"{pool.workers} x {pool.cpus} CPUs, {pool.gpus:g} GPUs" for _, pool in self._shapes)
        wanted, there = "; ".join(pools), self._ray.cluster_resources()
        has = f"{there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs"
        if not self._ever_worked and now - self._started_at > _GIVE_UP_S:
            raise UserError(
                "the cluster has no room for any worker",
                got=f"{has} in all, after {_GIVE_UP_S / 60:g} minutes",
                allowed=f"room for one of {wanted}",
                hint="`workers` in the spec says what is asked for; `ray status` what there is",
            )
        log.warning("no worker runs: waiting for room for %s; the cluster has %s in all", wanted, has)
        self._worked_at = now
