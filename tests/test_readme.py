"""The README's examples run as they stand, on the bundled data."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


# One process for all commands: each would load torch anew.
COMMANDS = """
import shlex, sys
from attattr_batch.cli.main import run_command_line
for line in sys.argv[1:]:
    assert run_command_line(shlex.split(line)[1:]) == 0, line
"""


@pytest.mark.slow
def test_every_shell_and_python_block_runs(tmp_path: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert all(line.startswith("attattr ") for line in lines)
    programs = [(COMMANDS, *lines), ("\n".join(blocks("python")),)]
    outputs = []
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", *program],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "leaked" not in done.stderr
    assert (tmp_path / "exported" / "head_scores.parquet").is_file()
    assert (tmp_path / "report.html").is_file()
    assert "FAILED" not in outputs[0]
    assert "(4, 4," in outputs[1]


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 120
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_tests_that_need_chromium_are_named() -> None:
    (line,) = (line for line in README.splitlines() if line.startswith("- Without the command `chromium`"))
    skipped = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if "no chromium on this machine" in path.read_text(encoding="utf-8") and path != Path(__file__)
    ]
    assert sorted(re.findall(r"`(tests/[^`]+)`", line)) == sorted(skipped)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_what_is_said_for_a_machine_without_make_is_what_make_does() -> None:
    (line,) = (line for line in README.splitlines() if line.startswith("- Without `make`"))
    quiet = "python -m pip install --quiet --disable-pip-version-check"
    make = ["make", "--dry-run", "--always-make", "demo", "test"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    script = done.stdout.replace(quiet, "pip install")
    said = [one for one in re.findall(r"`([^`]+)`", line) if one.startswith((".venv", "attattr", "python3"))]
    assert len(said) == 8
    for command in said:
        assert command.removesuffix(" -o demo/report.html") in script, command


def test_the_yaml_example_is_a_valid_spec(tmp_path: Path) -> None:
    from attattr_batch.spec_file import load_spec

    (block,) = blocks("yaml")
    path = tmp_path / "reviews.yaml"
    path.write_text(block, encoding="utf-8")
    first, second = load_spec(path)
    assert first.data.columns == {"text_a": "text", "label": "verdict"}
    assert second.data.task == "sst2"
