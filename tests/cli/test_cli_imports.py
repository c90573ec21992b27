"""What commands import: heavy packages decide how long a command takes, and imports can be counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "huggingface_hub", "ray", "altair", "streamlit", "alembic", "pandas"}
ARROW = {"pyarrow", "numpy"}

_SCRIPT = """
import json, sys
from attattr_batch.cli.main import run_command_line
code = run_command_line(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def imported(*arguments: object) -> set[str]:
    """The packages that a command has imported when it ends; it must succeed."""
    command = [sys.executable, "-c", _SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("command", [("status",), ("runs",), ("jobs", "list")])
def test_looking_at_a_store_imports_duckdb_and_nothing_heavy(filled: Path, command: tuple[str, ...]) -> None:
    found = imported(*command, "--db", filled)
    assert "duckdb" in found
    assert found & (HEAVY | ARROW) == set()


def test_a_question_of_ones_own_needs_arrow_and_no_more(filled: Path) -> None:
    found = imported("sql", "SELECT name FROM runs", "--db", filled)
    assert "pyarrow" in found
    assert found & HEAVY == set()


def test_a_finished_run_is_recognised_without_a_model(filled: Path, model: Path, data: Path) -> None:
    """Neither torch nor transformers is imported; with other rows they are."""
    command = ("run", "--task", "sst2", "--model", model, "--data-dir", data, "--db", filled)
    assert imported(*command, "--limit", 6) & HEAVY == set()
    assert {"torch", "transformers"} <= imported(*command, "--limit", 6, "--retry-errors")
