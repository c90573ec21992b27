"""The benchmarks of the store, its readers and the scheduler run, and commit what they say they commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import load
import pytest

ROOT = Path(__file__).resolve().parents[2]


def result(name: str, folder: Path) -> list[dict[str, dict[str, Any]]]:
    """Runs a benchmark's smoke version; returns its tables, each a mapping from first cell to row."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--smoke", "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    tables = json.loads((folder / f"{name}.json").read_text())["tables"]
    assert all(len(row) == len(part["columns"]) for part in tables for row in part["rows"])
    return [
        {str(row[0]): dict(zip(part["columns"], row, strict=True)) for row in part["rows"]} for part in tables
    ]


def test_store(tmp_path: Path) -> None:
    filled, asked = result("store", tmp_path)
    assert filled["64"]["commits"] == 2
    assert asked["importance of every head of a run"]["rows"] == 144
    assert asked["correlation of head importance between all runs"]["rows"] == 1
    assert asked["rows with the largest completeness error"]["rows"] == 20


def test_scheduler(tmp_path: Path) -> None:
    committed, sleeping, long = result("scheduler", tmp_path)
    rows = committed["144 heads, edges"]
    examples, heads = (float(rows[name].replace(",", "")) for name in ("examples/s", "head_scores rows/s"))
    assert heads / examples == pytest.approx(144, rel=0.1)
    assert sleeping["2"]["chunks"] == 8
    assert 0 < float(sleeping["2"]["efficiency"].rstrip("%")) <= 100
    assert list(long)[-1] == "2,560"


def test_readers(tmp_path: Path) -> None:
    (asked,) = result("readers", tmp_path)
    assert asked["nobody"]["questions"] == 0
    for readers in ("one dashboard, 2 viewers", "2 dashboards"):
        assert asked[readers]["questions"] >= 2
        assert asked[readers]["failed"] == 0


def test_commands_on_a_large_store(tmp_path: Path) -> None:
    store = load.make(tmp_path, 2, 64)
    names = ("a job of one's own over all head_scores", "snapshot")
    measured = list(load.time_commands({name: load.COMMANDS[name] for name in names}, store.path, tmp_path))
    assert [(name, code) for name, *_, code in measured] == [(name, 0) for name in names]
    assert all(peak > 50 for _, _, peak, _ in measured)
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM head_means").scalar_one() == 2 * 144
    assert (tmp_path / "copy.duckdb").exists()
