"""`attattr submit` against a real Ray head on loopback, with token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import attattr, rows_of, toy_model, toy_rows, write_sst2

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")

N_DEV = 8


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
    with tempfile.TemporaryDirectory(prefix="ray-head-") as folder:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        command += ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000", f"--temp-dir={folder}"]
        command += ["--node-ip-address=127.0.0.1", f"--port={free_port()}", "--disable-usage-stats"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        log = Path(folder, "start.log").open("wb")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            end(process)
            log.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends the head and everything it has started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the dashboard did not start")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write_sst2(tmp_path / "glue", dev=toy_rows(N_DEV, seed=1))
    toy_model(tmp_path / "model")
    path = tmp_path / "spec.yaml"
    path.write_text("{task: sst2, model: ./model, data_dir: ./glue, name: sent, executor: local}")
    return path


def test_runs_streams_and_is_submitted_once(
    head: str, environment: dict[str, str], spec: Path, tmp_path: Path
) -> None:
    db = tmp_path / "store.duckdb"
    spec.write_text(spec.read_text().replace(", executor: local", ""))
    command = ("submit", spec, "--address", head, "--db", db, "--follow")
    first = attattr(*command, env=environment, timeout=240)
    assert first.returncode == 0, first.stderr
    assert "submitted" in first.stderr
    assert f"{N_DEV} of {N_DEV} examples" in first.stderr, "the job's own words"
    assert rows_of(db, "SELECT name, committed FROM run_summary") == [("sent", N_DEV)]
    again = attattr(*command[:-1], env=environment, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "submitted before, nothing to do" in again.stderr


def test_the_job_s_exit_code_comes_back_and_a_failed_job_is_submitted_again(
    head: str, environment: dict[str, str], spec: Path, tmp_path: Path
) -> None:
    # Planned here, refused there: the local executor has no cluster.
    command = ("submit", spec, "--address", head, "--db", tmp_path / "store.duckdb", "--follow")
    first = attattr(*command, env=environment, timeout=240)
    assert first.returncode == 2, first.stderr
    assert "the local executor has one worker" in first.stderr
    again = attattr(*command, env=environment, timeout=240)
    assert (again.returncode, "nothing to do" in again.stderr) == (2, False)


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
        ("127.0.0.1:8265", "jobs are submitted to a web address"),
    ],
)
def test_a_cluster_that_is_not_there(spec: Path, address: str, message: str) -> None:
    refused = attattr("submit", spec, "--address", address, timeout=120)
    assert refused.returncode == 2
    assert message in refused.stderr
