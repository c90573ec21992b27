"""Fills the tables of docs/results.md: `python tools/fill_results.py FOLDER [DOCUMENT]`.

A table stands between `<!-- sql of STORE: QUERY -->` and `<!-- end -->`; the query, which may go over several
lines, is put to FOLDER/STORE.duckdb. tools/results.sh makes the stores.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import attattr_batch

_BLOCK = re.compile(
    r"(?P<head><!-- sql of (?P<store>\w+):\s*(?P<query>.*?)\s*-->)\n.*?<!-- end -->", re.DOTALL
)


def main(folder: str, document: str = "docs/results.md") -> None:
    """Rewrites the document with the stores' numbers."""
    path = Path(document)

    def fill(match: re.Match[str]) -> str:
        rows = attattr_batch.open(Path(folder) / f"{match['store']}.duckdb").sql(match["query"])
        lines = [f"| {' | '.join(rows.column_names)} |", "|" + "---|" * rows.num_columns]
        lines += [f"| {' | '.join(_cell(value) for value in row.values())} |" for row in rows.to_pylist()]
        return f"{match['head']}\n\n" + "\n".join(lines) + "\n\n<!-- end -->"

    path.write_text(_BLOCK.sub(fill, path.read_text(encoding="utf-8")), encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        value = 0.0 if abs(value) < 1e-12 else value
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"
    if isinstance(value, list):
        return " ".join(_cell(one) for one in value)
    return "" if value is None else str(value).replace("|", r"\|")


if __name__ == "__main__":
    main(*sys.argv[1:])
