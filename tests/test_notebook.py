"""The example notebook runs, and shows what it says it shows."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK: dict[str, Any] = json.loads((ROOT / "docs" / "example.ipynb").read_text(encoding="utf-8"))

_TAG = re.compile(r"<[^<>]+>")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")


def shape(outputs: list[dict[str, Any]]) -> list[Any]:
    """Kinds and words of a cell's outputs; numbers may differ between machines, and so may pictures."""
    found: list[Any] = []
    for output in outputs:
        contents = output.get("data", {"text/plain": output.get("text")})
        for kind, lines in contents.items():
            words = None if kind.startswith("image/") else _NUMBER.sub("0", _TAG.sub(" ", "".join(lines)))
            found.append((output["output_type"], kind, words))
    return found


@pytest.mark.slow
def test_the_example_notebook_shows_what_its_cells_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    executed = importlib.import_module("run_notebook").executed
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    for cell, outputs in zip(cells, executed(NOTEBOOK), strict=True):
        assert shape(outputs) == shape(cell["outputs"]), "run `make notebook`"


def test_the_notebook_is_small_and_free_of_scripts() -> None:
    text = (ROOT / "docs" / "example.ipynb").read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert "<script" not in text
    assert all(cell["outputs"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
