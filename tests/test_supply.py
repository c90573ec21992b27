"""What we are made of and whom we talk to: pinned versions, known licences, nobody told, nobody asked."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

import licences
import pytest
from helpers.fabricate import new_store
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "licences.md"


def wanted() -> list[Requirement]:
    return [one for group in licences.requirements().values() for one in group]


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = licences.pins()
    installed = licences.closure(wanted())
    assert len(installed) > 50
    assert sorted(installed - set(pins)) == []
    differing = {
        name: (version(name), pins[name])
        for name in installed
        if version(name).partition("+")[0] != pins[name]
    }
    assert differing == {}


class Installed:
    """What is installed on another machine, as the list of licences sees it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder = folder
        self.others: dict[str, Distribution | None] = {}
        patch.setattr(licences, "distribution", self._find)

    def add(self, name: str, version: str, licence: str, needs: Sequence[str]) -> None:
        facts = [f"Name: {name}", f"Version: {version}", f"License-Expression: {licence}" if licence else ""]
        folder = self.folder / f"{name}.dist-info"
        folder.mkdir()
        lines = [line for line in [*facts, *(f"Requires-Dist: {need}" for need in needs)] if line]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        self.others[name] = Distribution.at(folder)

    def remove(self, name: str) -> None:
        self.others[name] = None

    def _find(self, name: str) -> Distribution:
        found = self.others[name] if name in self.others else distribution(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


CUDA = [
    'cuda-toolkit[cublas,cudart]==13.0.3; platform_system == "Linux"',
    'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"',
    'triton==3.7.1; platform_system == "Linux" and python_version < "3.15"',
]


@pytest.mark.parametrize("build", ["2.13.0+cpu", "2.13.0"])
def test_either_build_of_torch_gives_the_same_list(installed: Installed, build: str) -> None:
    """An ordinary index gives CUDA, with packages that nobody pinned and that say no licence."""
    here = distribution("torch")
    own = [one for one in here.requires or () if canonicalize_name(Requirement(one).name) in licences.pins()]
    for name in ("cuda-toolkit", "nvidia-nccl-cu13", "triton"):
        installed.add(name, "1", "", [])
    installed.add("torch", build, licences.licence(here), own if "cpu" in build else own + CUDA)
    assert licences.licences_markdown() == LIST.read_text(encoding="utf-8")
    assert {"torch", "sympy", "mpmath", "jinja2", "markupsafe", "filelock"} < licences.closure(wanted())


def test_a_machine_with_fewer_packages_gives_the_same_list(installed: Installed) -> None:
    installed.remove("watchdog")  # Streamlit asks for it except on macOS
    assert "watchdog" not in licences.closure(wanted(), {"platform_system": "Darwin"})
    assert licences.licences_markdown() == LIST.read_text(encoding="utf-8")


def test_only_torch_brings_what_is_not_pinned(installed: Installed) -> None:
    installed.add("unheard-of", "1", "MIT", [])
    installed.add("rich", "15.0.0", "MIT", ["unheard-of"])
    assert licences.closure(wanted()) - set(licences.pins()) == {"unheard-of"}


@pytest.mark.parametrize(
    ("name", "licence"), [("rich", "GPL-3.0-only"), ("rich", ""), ("sympy", "AGPL-3.0-or-later")]
)
def test_a_licence_that_binds_our_users_is_refused(installed: Installed, name: str, licence: str) -> None:
    """A dependency of ours, and one that comes with torch in every build."""
    installed.add(name, licences.pins()[name], licence, distribution(name).requires or [])
    with pytest.raises(SystemExit, match=f"{name}: licence {licence or 'unknown'}"):
        licences.licences_markdown()


# A new major version of these changes numbers, the file or what we call; docs/dependencies.md says which.
BOUNDED = ("torch", "transformers", "duckdb", "ray", "datasets", "streamlit")


@pytest.mark.parametrize("name", BOUNDED)
def test_what_decides_numbers_stays_below_its_next_major_version(name: str) -> None:
    asked = [one.specifier for one in wanted() if one.name == name]
    tested = licences.pins()[name]
    major = int(tested.split(".")[0])
    assert asked
    for allowed in asked:
        assert tested in allowed
        assert f"{major}.9999" in allowed
        assert f"{major + 1}.0.0" not in allowed


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_torch_alone_comes_from_another_index_where_one_is_named() -> None:
    def commands(*arguments: str) -> list[str]:
        make = ["make", "--dry-run", "--always-make", ".venv/.installed", *arguments]
        done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.replace("\\\n", " ").splitlines() if "pip install" in line]

    plain = commands()
    alone, rest = commands("TORCH_INDEX=https://torch.example/cpu")
    assert "--no-deps torch -c constraints.txt" in alone
    assert alone.split() == [*plain[0].split(), "--index-url", "https://torch.example/cpu"]
    assert (rest, "--index-url" in rest) == (plain[1], False)


@pytest.mark.parametrize("has_chromium", [True, False])
def test_ci_ends_where_chromium_cannot_be_had(tmp_path: Path, has_chromium: bool) -> None:
    """Its tests would be skipped, and all would look well. Here `make` is the first step after it."""
    for command in ("bash", "dirname", "id"):
        (tmp_path / command).symlink_to(str(shutil.which(command)))
    for command in ("apt-get", "sudo", "make", *(["chromium"] if has_chromium else [])):
        (tmp_path / command).write_text(f"#!{shutil.which('bash')}\necho {command} was called\nexit 100\n")
        (tmp_path / command).chmod(0o755)
    own = {"PATH": str(tmp_path), "ATTATTR_REAL_DATA": "none"}
    done = subprocess.run([ROOT / ".ci" / "run"], env=own, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert ("make was called" in done.stdout) == has_chromium
    assert ("chromium is missing" in done.stderr) != has_chromium


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
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "RAY_", "ATTATTR_", "STREAMLIT_", "DISABLE_TELEMETRY", "DO_NOT_TRACK"))
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


# Whom each library would tell, asked where we start it.
TELEMETRY = """
import json, os, sys
from pathlib import Path
import attattr_batch
import datasets, huggingface_hub.constants
import attattr_batch.data.user_files
from attattr_batch.cli.dashboard import dashboard
from attattr_batch.runtime.submission import JobServer
from attattr_batch.runtime.executors.ray_session import ray_session

class Started(BaseException):
    pass

def started(*arguments, **options):
    from ray._common.usage import usage_lib
    raise Started(usage_lib.usage_stats_enabled())

def asked(start):
    os.environ.pop("RAY_USAGE_STATS_ENABLED", None)
    try:
        start()
    except Started as answer:
        return answer.args[0]

import ray, ray.job_submission
ray.init = ray.job_submission.JobSubmissionClient = started
os.execve = lambda program, command, environment: commands.append(command)
commands = []
dashboard(db=Path(sys.argv[1]), port=0)
print(json.dumps({
    "hub": not huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY,
    "downloads": datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
    "ray": asked(lambda: ray_session(1, None).__enter__()),
    "ray jobs": asked(lambda: JobServer(sys.argv[2])),
}))
print(json.dumps(commands[0]))
"""


def test_nobody_is_told_what_we_do(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"http://127.0.0.1:{head.getsockname()[1]}"
        done, calls = offline(tmp_path, "-c", TELEMETRY, str(store.path), address)
    assert done.returncode == 0, done.stderr
    told, dashboard = (json.loads(line) for line in done.stdout.splitlines())
    assert told == {"hub": False, "downloads": False, "ray": False, "ray jobs": False}
    flags = [argument for argument in dashboard if argument.startswith("--")]
    shown, more = offline(tmp_path, "-m", "streamlit", "config", "show", *flags)
    assert "\ngatherUsageStats = false\n" in shown.stdout, shown.stderr
    assert calls == more == ""


def test_the_python_interface_tells_nobody_either(tmp_path: Path) -> None:
    """Without the command line."""
    code = (
        "import attattr_batch, attattr_batch.engine.models, huggingface_hub.constants as c\n"
        "print(c.HF_HUB_DISABLE_TELEMETRY)"
    )
    done, calls = offline(tmp_path, "-c", code)
    assert (done.returncode, done.stdout, calls) == (0, "True\n", ""), done.stderr
