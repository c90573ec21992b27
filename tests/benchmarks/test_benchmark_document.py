"""BENCHMARKS.md holds what `make bench` makes, of real data, and names what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import document
import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = [json.loads(path.read_text()) for path in sorted(document.RESULTS.glob("*.json"))]


def test_it_is_made_from_the_results() -> None:
    assert (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8") == document.markdown()


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result["command"])
def test_each_result_names_its_commit_and_identity_version(result: dict[str, object]) -> None:
    assert re.fullmatch(r"[0-9a-f]{10}( with changes)?", str(result["commit"]))
    assert isinstance(result["identity_version"], int)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result["command"])
def test_make_bench_makes_it(result: dict[str, str]) -> None:
    """The Makefile runs the script with the flags that the result names, or with none where none is all."""
    if result["command"] == "bash benchmarks/gpu.sh":
        pytest.skip("made where a GPU is, not by `make bench`")
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nbench:")[1].split("\n\n")[0]
    lines = re.findall(r"benchmarks/(\w+)\.py(.*)", recipe)
    if "task" in result:
        limit = re.search(r"--limit \d+", result["command"])
        wanted = [f"--task {result['task']}", *([limit.group()] if limit else [])]
        assert any(name == "main_job" and all(w in flags for w in wanted) for name, flags in lines)
        return
    found = re.search(r"benchmarks/(\w+)\.py(.*)", result["command"])
    assert found is not None
    script, flags = found.groups()
    made = [line for name, line in lines if name == script]
    defaults = ("--part", "--runs", "--examples")  # a script without these runs all parts, or this size
    wanted = [] if any(flag in flags for flag in defaults) else flags.split()
    assert any(all(word in line.split() for word in wanted) for line in made), (script, flags)


def test_results_of_bundled_data_stay_out_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTATTR_REAL_DATA", "somewhere")
    assert document.out_folder(None) == document.RESULTS
    assert document.out_folder(None, smoke=True) == document.UNDOCUMENTED
    monkeypatch.delenv("ATTATTR_REAL_DATA")
    assert document.out_folder(None) == document.UNDOCUMENTED
    assert document.out_folder(tmp_path) == tmp_path
