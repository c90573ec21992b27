"""The Ray executor: one actor a worker, one chunk in flight an actor. The only file that imports Ray.

Ray starts with usage reports off, a fresh token (it listens on all interfaces even locally) and a session
folder of its own, which is deleted at the end. Actors never restart or retry by themselves: the driver
decides what is computed again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from attattr_batch.errors import TerminalError, TransientError, UserError
from attattr_batch.passes import Work, Worker
from attattr_batch.records import Chunk
from attattr_batch.runtime.executors._base import Failed, Finished, Lost, Outcome, run_chunk

_OBJECT_STORE_BYTES = 256 * 2**20
_FAILED_STARTS = 3
_CONNECT_S = 5.0


@dataclass(frozen=True)
class Pool:
    """Workers to start.

    Attributes:
        workers: Number of actors.
        cpus: CPUs of each.
        gpus: GPUs of each (logical).
        address: A running cluster's address, or None for a cluster of our own on this machine.
    """

    workers: int
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None


class _Actor:
    """Lives in a Ray worker process; loads the model once."""

    def __init__(self, work: Work):
        self._work = work
        self._worker: Worker | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def start(self) -> str | None:
        """Loads the worker; returns the message of an error that no other worker would escape."""
        try:
            self._worker = self._work.start()
        except UserError as error:
            return str(error)
        return None

    def compute(self, chunk: Chunk) -> Finished | Failed:
        """Computes one chunk."""
        if self._worker is None:
            raise TransientError("the worker was handed a chunk before it was ready")
        return run_chunk(self._worker, chunk, self._name)


class RayExecutor:
    """Actors on a Ray cluster: on this machine, or at an address."""

    def __init__(self, work: Work, pool: Pool):
        self._resources = ExitStack()
        self._resources.enter_context(_stdout_to_stderr())
        self._ray = self._resources.enter_context(_session(pool))
        actor = self._ray.remote(_Actor)
        self._make = actor.options(
            num_cpus=pool.cpus, num_gpus=pool.gpus, max_restarts=0, max_task_retries=0
        ).remote
        self._work = self._ray.put(work)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Chunk]] = {}
        self._failed_starts = 0
        for _ in range(pool.workers):
            self._start_actor()

    def room(self) -> bool:
        """Whether a started worker is idle."""
        return bool(self._idle)

    def submit(self, chunk: Chunk) -> None:
        """Hands the chunk to an idle worker."""
        actor = self._idle.pop()
        self._busy[actor.compute.remote(chunk)] = (actor, chunk)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Waits for workers to start, to finish, or to die.

        Raises:
            UserError: no worker can start.
            TransientError: workers die again and again while starting.
        """
        waiting = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        # Take all that is ready, or one fast worker could keep the others waiting.
        more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        outcomes: list[Outcome] = []
        for reference in dict.fromkeys([*ready, *more]):
            if reference in self._starting:
                self._started(reference)
            else:
                outcomes.append(self._ended(reference))
        return outcomes

    def close(self) -> None:
        """Kills the workers and ends the session."""
        self._resources.close()

    def _start_actor(self) -> None:
        actor = self._make(self._work)
        self._starting[actor.start.remote()] = actor

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            problem = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS and not (self._idle or self._busy):
                raise TransientError(f"workers die while they start: {_last_line(error)}") from error
            self._start_actor()
            return
        if problem is not None:
            raise UserError(problem)
        self._failed_starts = 0
        self._idle.append(actor)

    def _ended(self, reference: Any) -> Outcome:
        actor, chunk = self._busy.pop(reference)
        try:
            outcome: Finished | Failed = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(actor)
            cause = error.cause or error
            if isinstance(cause, UserError | TerminalError):
                raise cause from error
            return Failed(chunk, type(cause).__name__, str(cause), str(error), str(actor))
        except self._ray.exceptions.RayError as error:
            self._start_actor()
            return Lost(chunk, _first_line(error), str(actor))
        self._idle.append(actor)
        return outcome


@contextmanager
def _session(pool: Pool) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    folder = None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if pool.address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        # One token for the life of the process: Ray keeps the first it has seen.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        folder = tempfile.mkdtemp(prefix="attattr-ray-")  # short: socket paths have a limit
        options |= {
            "address": "local",
            "num_cpus": pool.workers * pool.cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": folder,
        }
    else:
        _check_reachable(pool.address)
        options["address"] = pool.address
    import ray
    import ray.exceptions

    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError("cannot use the Ray cluster", got=f"{pool.address}: {_first_line(error)}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in place, which exits at once
    try:
        yield ray
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Ray's daemons write to file descriptor 1, which is for data."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes to reach a cluster that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto"
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            "cannot reach the Ray cluster",
            got=f"{address}: {error}",
            allowed="HOST:PORT of the head node's GCS, usually port 6379",
            hint="`ray status` on the head node",
        ) from error


def _last_line(error: BaseException) -> str:
    """The cause: Ray puts the remote traceback into the message."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def check_ray(pool: Pool) -> str:
    """Starts a session; returns what is there.

    Raises:
        UserError: the session cannot start.
    """
    with _stdout_to_stderr(), _session(pool) as ray:
        nodes = len(ray.nodes())
        return f"{nodes} node{'s' if nodes > 1 else ''}, {ray.cluster_resources().get('CPU', 0):.0f} CPUs"
