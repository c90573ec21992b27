"""Connecting to Ray: a cluster of our own on this machine, or one at an address.

Ray starts with usage reports off. A cluster of our own has a fresh token (Ray listens on all interfaces even
locally) and a session folder; at the end the folder is deleted and the environment is as it was.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from attattr_batch.errors import UserError
from attattr_batch.runtime.executors.pools import Pool

_OBJECT_STORE_BYTES = 256 * 2**20
_CONNECT_S = 5.0


@contextmanager
def ray_session(pools: Sequence[Pool], address: str | None) -> Iterator[Any]:
    """Gives the module `ray`, connected.

    Args:
        pools: What a cluster of our own must have room for.
        address: A running cluster, or None for one of our own on this machine.

    Raises:
        UserError: the cluster cannot be reached or used, or the caller uses Ray in this process.
    """
    _refuse_a_second_session()
    prepare_environment()
    folder = None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        folder = tempfile.mkdtemp(prefix="attattr-ray-")  # short: socket paths have a limit
        options |= {
            "address": "local",
            "num_cpus": sum(pool.workers * pool.cpus for pool in pools),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": folder,
        }
    else:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdigit():  # not "auto"
            check_reachable(host, int(port), "HOST:PORT of the head node's GCS, usually port 6379")
        options["address"] = address
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with _token(fresh=address is None):
            import ray
            import ray.exceptions

            try:
                _connect(ray, options)
                if threading.current_thread() is threading.main_thread():
                    signal.signal(
                        signal.SIGTERM, on_sigterm
                    )  # Ray has put its own there, which exits at once
                yield ray
            finally:
                ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _token(*, fresh: bool) -> Iterator[None]:
    """Gives Ray a token that nobody has seen, or the environment's; puts the environment back."""
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    if fresh:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        _read_token_again()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_token_again()


def _read_token_again() -> None:
    """Of mode and token Ray keeps the first that it sees in a process, unless it is told to look again."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    Config.initialize("")  # the mode first: without it, threads that still end would miss the token
    AuthenticationTokenLoader.instance().reset_cache()


def _refuse_a_second_session() -> None:
    """Leaves the caller's session as it is: a process has one at a time, and `ray.shutdown` would end it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise UserError(
            "this process uses Ray already, and a process has one session at a time",
            got="a session that attattr did not start (`ray.is_initialized()`); it stays as it is",
            allowed="`executor: local`, or a process without a session of its own",
            hint="`ray.shutdown()` first, or `attattr run` in another process, `--address` for your cluster",
        )


def _connect(ray: Any, options: Mapping[str, Any]) -> None:
    where = options["address"]
    try:
        ray.init(**options)
    except ray.exceptions.AuthenticationError as error:
        raise token_refused(where, error) from error
    except Exception as error:  # of any kind: a node that does not come up in time is a bare Exception
        raise UserError(
            "cannot use the Ray cluster",
            got=f"{where}: {first_line(error)}",
            hint="`attattr doctor --ray`; Python and Ray must have the cluster's versions",
        ) from error


def token_refused(address: str, error: BaseException) -> UserError:
    """The error for a cluster that has another token."""
    return UserError(
        "the cluster refuses the token",
        got=f"{address}: {first_line(error)}",
        hint="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token",
    )


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
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


def check_ray(pool: Pool) -> str:
    """Starts a session; returns what is there.

    Raises:
        UserError: the session cannot start.
    """
    with stdout_to_stderr(), ray_session([pool], None) as ray:
        nodes = len(ray.nodes())
        return f"{nodes} node{'s' if nodes > 1 else ''}, {ray.cluster_resources().get('CPU', 0):.0f} CPUs"


def first_line(error: BaseException) -> str:
    """What went wrong, less Ray's explanations."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """The cause: Ray puts the remote traceback into the message."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def prepare_environment() -> None:
    """Sets what Ray reads when it is imported: no usage reports, no taking over by `uv run`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


def check_reachable(host: str, port: int, allowed: str) -> None:
    """Tries to connect; Ray itself tries for minutes to reach a cluster that is not there.

    Raises:
        UserError: nobody listens there.
    """
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(
            "cannot reach the Ray cluster",
            got=f"{host}:{port}: {error}",
            allowed=allowed,
            hint="`ray status` on the head node",
        ) from error
