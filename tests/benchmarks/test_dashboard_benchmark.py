"""The benchmark of the dashboard opens pages of a store that fills them all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_dashboard(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "dashboard.py"), "--out", str(tmp_path)]
    pages = ["--page", "Overview", "--page", "Examples"]
    subprocess.run(
        [*command, "--runs", "2", "--examples", "64", "--repeats", "1", *pages],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    (part,) = json.loads((tmp_path / "dashboard.json").read_text())["tables"]
    timed = [page for page, *_ in part["rows"]]
    assert timed == ["Overview", "Examples"]
    assert all(0 < float(seconds) < 60 for row in part["rows"] for seconds in row[1:])
    assert "2 runs" in part["note"]
