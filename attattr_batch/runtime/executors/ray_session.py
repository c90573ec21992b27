"""Connecting to Ray: to a cluster of our own on this machine, or to one at an address.

Usage reports are off. A cluster of our own has a fresh token, because Ray listens on all interfaces even
locally, and a session folder. At the end the folder is deleted and the environment is as it was.
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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from attattr_batch.errors import UserError

_OBJECT_STORE_BYTES, _MOST_STORES = 256 * 2**20, 16
_CONNECT_S = 5.0


@contextmanager
def ray_session(cpus: int, address: str | None, gpu_workers: int = 0) -> Iterator[Any]:
    """Gives the module `ray`, connected.

    Args:
        cpus: Logical CPUs of a cluster of our own.
        address: A running cluster, or None for one of our own on this machine.
        gpu_workers: Workers of a cluster of our own that return the rows of many examples at once.

    Raises:
        UserError: the cluster cannot be reached or used, or the caller uses Ray in this process.
    """
    prepare_environment()
    import ray
    import ray.exceptions

    _refuse_a_second_session(ray)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with ExitStack() as stack:
        if address is None:
            folder = tempfile.mkdtemp(prefix="attattr-ray-")  # short: socket paths have a limit
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            options |= {
                "address": "local",
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES * min(_MOST_STORES, 1 + gpu_workers),
                "_temp_dir": folder,
            }
        else:
            host, _, port = address.removeprefix("ray://").rpartition(":")
            if port.isdigit():  # not "auto"
                check_reachable(host, int(port), "HOST:PORT of the head node's GCS, usually port 6379")
            options["address"] = address
        stack.enter_context(_token(fresh=address is None))
        stack.callback(ray.shutdown)
        _connect(ray, options)
        yield ray


def _refuse_a_second_session(ray: Any) -> None:
    """Leaves a session of the caller's as it is; `ray.shutdown` would end it."""
    if ray.is_initialized():
        raise UserError(
            "this process uses Ray already, and a process has one session at a time",
            got="a session that attattr did not start (`ray.is_initialized()`)",
            allowed="`executor: local`, or a process without a session of its own",
            hint="`ray.shutdown()` first, or `attattr run` in another process, `--address` for your cluster",
        )


@contextmanager
def _token(*, fresh: bool) -> Iterator[None]:
    """Gives Ray a fresh token, or the environment's; puts the environment back at the end."""
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
    """Has Ray read mode and token again; otherwise it keeps the first that it sees in a process."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    Config.initialize("")  # the mode first: threads that are still ending would miss the token
    AuthenticationTokenLoader.instance().reset_cache()


def _connect(ray: Any, options: Mapping[str, Any]) -> None:
    where, on_sigterm = options["address"], signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except ray.exceptions.AuthenticationError as error:
        raise token_refused(where, error) from error
    except Exception as error:  # of any kind: a node that does not come up in time is a bare Exception
        raise UserError(
            "cannot use the Ray cluster",
            got=f"{where}: {first_line(error)}",
            hint="Python and Ray must have the cluster's versions; `attattr doctor` shows those here",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler exits at once


def token_refused(address: str, error: BaseException) -> UserError:
    """The error for a cluster that has another token."""
    return UserError(
        "the cluster refuses the token",
        got=f"{address}: {first_line(error)}",
        hint="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's token",
    )


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends to stderr what Ray's daemons write to file descriptor 1, which is for data."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def first_line(error: BaseException) -> str:
    """What went wrong, without Ray's explanations."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """The cause: the message holds the remote traceback, which ends with it."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def prepare_environment() -> None:
    """Sets what Ray reads when it is imported: no usage reports, and no workers started through `uv run`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


def check_reachable(host: str, port: int, allowed: str) -> None:
    """Tries to connect, because Ray itself tries for minutes to reach a cluster that is not there.

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
