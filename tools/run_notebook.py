"""Executes a notebook in place: `python tools/run_notebook.py docs/example.ipynb`.

A cell shows what it prints and the value of its last expression, as in Jupyter. That is all our example
needs; a kernel, its client and what they bring would be thirty packages more.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Notebook = dict[str, Any]
Output = dict[str, Any]


def main(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, outputs) in enumerate(zip(code, executed(notebook), strict=True), start=1):
        cell["execution_count"] = number
        cell["outputs"] = [
            {**output, "execution_count": number} if output["output_type"] == "execute_result" else output
            for output in outputs
        ]
    text = json.dumps(notebook, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"executed {len(code)} cells; {path} has {len(text) / 1024:.0f} KiB")


def executed(notebook: Notebook) -> Iterator[list[Output]]:
    """Runs the code cells one after the other in a new folder; gives the outputs of each."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                yield _run("".join(cell["source"]), names)


def _run(source: str, names: dict[str, Any]) -> list[Output]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {kind: _lines(content) for kind, content in _shown(value).items()}
        outputs.append({"output_type": "execute_result", "metadata": {}, "data": data})
    return outputs


def _shown(value: Any) -> dict[str, str]:
    """What a notebook shows of a value, by media type."""
    if hasattr(value, "_repr_mimebundle_"):
        found = value._repr_mimebundle_(include=None, exclude=None)
        return dict(found[0] if isinstance(found, tuple) else found)
    shown = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        shown["text/html"] = value._repr_html_()
    return shown


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    # As on every machine: no progress bars, and models from where they lie.
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(Path(sys.argv[1]))
