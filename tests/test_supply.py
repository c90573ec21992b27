"""What we are made of and whom we talk to: pinned versions, known licences, nobody told, nobody asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import licences
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = licences.pins()
    installed = licences.closure([one for wanted in licences.requirements().values() for one in wanted])
    assert len(installed) > 50
    assert sorted(installed - set(pins)) == []
    differing = {
        name: (version(name), pins[name])
        for name in installed
        if version(name).partition("+")[0] != pins[name]
    }
    assert differing == {}


# Fails, and writes down, whatever leaves this machine or asks for a name; the file is found by every Python.
NO_NETWORK = """
import os, socket, traceback
_probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    _probe.connect(("10.255.255.255", 1))  # says which address is ours; a datagram socket sends nothing here
    _ours = _probe.getsockname()[0]
except OSError:
    _ours = "127.0.0.1"
_probe.close()
_HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", _ours, socket.gethostname())
def _refuse(what):
    with open(os.environ["ATTATTR_CALLS"], "a") as calls:
        calls.write(f"{what}\\n{''.join(traceback.format_stack(limit=8))}\\n")
    raise OSError(f"the network is off: {what}")
def _local(address):
    return not isinstance(address, tuple) or str(address[0]) in _HERE
class _Socket(socket.socket):
    def connect(self, address):
        silent = self.type == socket.SOCK_DGRAM  # Ray asks so for the address of this machine
        return super().connect(address) if silent or _local(address) else _refuse(address)
    def connect_ex(self, address):
        return super().connect_ex(address) if _local(address) else _refuse(address)
    def sendto(self, data, *rest):
        return super().sendto(data, *rest) if _local(rest[-1]) else _refuse(rest[-1])
_names = socket.getaddrinfo
def _getaddrinfo(host, *rest, **more):
    return _names(host, *rest, **more) if host is None or _local((host,)) else _refuse(host)
socket.socket, socket.getaddrinfo = _Socket, _getaddrinfo
socket.gethostbyname = lambda host: "127.0.0.1" if _local((host,)) else _refuse(host)
"""


def offline(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs Python with the network off and a home of its own; returns what it did and whom it tried."""
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    calls = folder / "calls"
    calls.touch()
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "RAY_", "ATTATTR_"))
    }
    own = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "ATTATTR_CALLS": str(calls),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=kept | own, cwd=folder, capture_output=True, text=True, timeout=280
    )
    return done, calls.read_text()


def test_the_network_is_off_in_these_tests(tmp_path: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://example.com')"
    done, calls = offline(tmp_path, "-c", code)
    assert done.returncode != 0
    assert calls.startswith("example.com")


# One process for all: each would load torch anew.
COMMANDS = """
import json, sys
from attattr_batch.cli.main import run_command_line
for step in json.loads(sys.argv[1]):
    code = run_command_line(step)
    assert code == 0, (step, code)
"""


@pytest.mark.slow
def test_a_run_its_jobs_and_its_report_ask_nobody(tmp_path: Path) -> None:
    bundled = ["--task", "sst2", "--model", "bundled", "--data-dir", "bundled", "--limit", "6"]
    steps = [
        ["run", *bundled, "--quiet"],
        ["jobs", "run", "head_importance", "--param", "replicates=5", "--quiet"],
        ["sql", "SELECT count(*) FROM head_scores"],
        ["verify"],
        ["report", "-o", "report.html"],
        ["doctor"],
    ]
    done, calls = offline(tmp_path, "-c", COMMANDS, json.dumps(steps))
    assert done.returncode == 0, done.stderr
    assert calls == ""
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray_asks_nobody_but_the_machines_own_cloud(tmp_path: Path) -> None:
    """Ray, reports off, still asks at its start which cloud it is in: addresses that end at the host."""
    bundled = ["--task", "sst2", "--model", "bundled", "--data-dir", "bundled", "--limit", "4"]
    done, calls = offline(
        tmp_path, "-m", "attattr_batch", "run", *bundled, "--executor", "ray", "--workers", "1"
    )
    assert done.returncode == 0, done.stderr
    asked = {line for line in calls.splitlines() if line and not line.startswith(" ")}
    assert asked <= {"169.254.169.254", "metadata.google.internal"}


TELEMETRY = """
import json, os
import attattr_batch
from attattr_batch.runtime.executors.ray_session import prepare_environment
from attattr_batch.cli import dashboard
prepare_environment()
import datasets, huggingface_hub.constants
import attattr_batch.data.tables
from ray._common.usage import usage_lib
print(json.dumps({
    "hub": huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY,
    "downloads counted": datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
    "ray": usage_lib.usage_stats_enabled(),
    "streamlit": dashboard._SETTINGS["browser.gatherUsageStats"],
}))
"""


def test_nobody_is_told_what_we_do(tmp_path: Path) -> None:
    done, calls = offline(tmp_path, "-c", TELEMETRY)
    assert done.returncode == 0, done.stderr
    told = {"hub": True, "downloads counted": False, "ray": False, "streamlit": "false"}
    assert json.loads(done.stdout) == told
    assert calls == ""


def test_the_python_interface_tells_nobody_either(tmp_path: Path) -> None:
    """Without the command line."""
    code = (
        "import attattr_batch, attattr_batch.engine.models, huggingface_hub.constants as c\n"
        "print(c.HF_HUB_DISABLE_TELEMETRY)"
    )
    done, calls = offline(tmp_path, "-c", code)
    assert (done.returncode, done.stdout, calls) == (0, "True\n", ""), done.stderr
