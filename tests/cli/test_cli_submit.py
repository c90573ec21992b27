"""`attattr submit` against a real Ray head on loopback, with token authentication."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers.shells import Shell, shell
from helpers.toy import attattr, rows_of, toy_model, toy_rows, write_sst2

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")

N_DEV = 8
STARTS = 3


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    path = os.pathsep.join(path for path in sys.path if path)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "OMP_NUM_THREADS": "1"}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | quiet | token | {"PYTHONPATH": path, "PATH": binaries}


@pytest.fixture(scope="module")
def head(environment: dict[str, str]) -> Iterator[str]:
    """Address of the dashboard of a head with two CPUs."""
    port = free_port()
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory(prefix="ray-head-", ignore_cleanup_errors=True) as folder:
            log = Path(folder, "start.log")
            with log.open("wb") as stream:
                command = [*head_command(port), f"--temp-dir={folder}"]
                process = subprocess.Popen(
                    command, env=environment, stdout=stream, stderr=stream, start_new_session=True
                )
            try:
                if runs(process, log):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                end(process)
    raise AssertionError("the head did not start")


def head_command(port: int) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"),
        *("--num-gpus=0", "--object-store-memory=100000000", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={free_port()}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}"),
        # Ray's usual ports may be another cluster's, and jobs would find no agent.
        *(f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"),
    ]


def runs(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Waits until the head runs; on a busy machine Ray gives its own start up after half a minute."""
    while process.poll() is None:
        if "Ray runtime started" in log.read_text():
            return True
        time.sleep(0.2)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends the head and everything it has started; asked politely they take half a minute."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def submit(environment: dict[str, str]) -> Iterator[Shell]:
    """Runs commands as one who has the token."""
    with shell(environment) as run:
        yield run


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write_sst2(tmp_path / "glue", dev=toy_rows(N_DEV, seed=1))
    toy_model(tmp_path / "model")
    path = tmp_path / "spec.yaml"
    path.write_text("{task: sst2, model: ./model, data_dir: ./glue, name: sent, executor: local}")
    return path


def test_runs_streams_and_is_submitted_once(head: str, submit: Shell, spec: Path, tmp_path: Path) -> None:
    db = tmp_path / "store.duckdb"
    spec.write_text(spec.read_text().replace(", executor: local", ""))
    command = ("submit", spec, "--address", head, "--db", db, "--follow")
    first = submit(*command)
    assert first.code == 0, first.err
    assert "submitted" in first.err
    assert f"{N_DEV} of {N_DEV} examples" in first.err, "the job's own words"
    assert rows_of(db, "SELECT name, committed FROM run_summary") == [("sent", N_DEV)]
    again = submit(*command[:-1])
    assert again.code == 0, again.err
    assert "submitted before, nothing to do" in again.err


def test_the_job_s_exit_code_comes_back_and_a_failed_job_is_submitted_again(
    head: str, submit: Shell, spec: Path, tmp_path: Path
) -> None:
    # Planned here, refused there: the local executor has no cluster.
    command = ("submit", spec, "--address", head, "--db", tmp_path / "store.duckdb", "--follow")
    first = submit(*command)
    assert first.code == 2, first.err
    assert "the local executor has one worker" in first.err
    again = submit(*command)
    assert (again.code, "nothing to do" in again.err) == (2, False)
    assert "the local executor has one worker" in again.err
    ids = [re.findall(r"(attattr-\S+): submitted", answer.err) for answer in (first, again)]
    assert ids[1] == [f"{ids[0][0]}-2"], "Ray may still watch over the first id"


def test_a_wrong_token_is_a_clear_error(head: str, environment: dict[str, str], spec: Path) -> None:
    wrong = environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = attattr("submit", spec, "--address", head, env=wrong, timeout=120)
    assert refused.returncode == 2
    assert "the cluster refuses the token" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:1", "cannot reach the Ray cluster"),
        ("127.0.0.1:8265", "must be a web address"),
    ],
)
def test_a_cluster_that_is_not_there(spec: Path, address: str, message: str) -> None:
    refused = attattr("submit", spec, "--address", address, timeout=120)
    assert refused.returncode == 2
    assert message in refused.stderr
