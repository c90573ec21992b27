"""A store with two small runs of the bundled data and every job, made once for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attattr_batch.cli.main import run_command_line
from attattr_batch.store.connection import Store

SMALL = ["replicates=5", "patterns=2", "victims=3", "control_draws=1", "report_victims=3", "report_draws=1"]


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("built") / "built.duckdb"
    for task in ("sst2", "mrpc"):
        run = ["run", "--task", task, "--model", "bundled", "--data-dir", "bundled", "--limit", "12"]
        assert run_command_line([*run, "--name", task, "--db", str(db), "--quiet"]) == 0
    params = [argument for one in SMALL for argument in ("--param", one)]
    assert run_command_line(["jobs", "run", "--db", str(db), "--quiet", *params]) == 0
    return db


@pytest.fixture
def built_store(_built: Path, tmp_path: Path) -> Store:
    """A copy of it for one test."""
    copy = tmp_path / "built.duckdb"
    shutil.copy(_built, copy)
    return Store(copy)
