"""The wheel alone is enough for use, from any folder, and the source archive for building and testing it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


# One process for all: each would load torch anew.
QUICKSTART = """
import attattr_batch
from attattr_batch.cli.main import run_command_line
print(attattr_batch.__file__, flush=True)
assert run_command_line(["run", "--limit", "3", "--quiet"]) == 0
assert run_command_line(["verify", "--format", "csv"]) == 0
"""


def call(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_quickstart_runs_from_a_bare_wheel(tmp_path: Path) -> None:
    python = sys.executable
    # The source archive, and from it the wheel.
    call(python, "-m", "build", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (archive,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    if (ROOT / ".git").exists():
        tracked = call("git", "-C", str(ROOT), "ls-files", "-z", cwd=tmp_path).rstrip("\0").split("\0")
        with tarfile.open(archive) as packed:
            inside = {name.partition("/")[2] for name in packed.getnames()}
        assert set(tracked) - inside == set()
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("attattr_batch/_data/schema/versions/") for name in names)
    assert "attattr_batch/_data/jobs/runs/quickstart.yaml" in names
    assert "attattr_batch/schedule/templates/rayjob.yaml" in names
    assert wheel.stat().st_size < 5 * 2**20
    site = tmp_path / "site"
    call(python, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    out = call(python, "-c", QUICKSTART, cwd=elsewhere, **environment)
    where, audits = out.split("\n", 1)
    assert Path(where).is_relative_to(site)
    assert "FAILED" not in audits
    assert audits.count(",ok,") >= 10
