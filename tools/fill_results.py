"""Fills the tables of docs/results.md from two stores: `python tools/fill_results.py STORE SECOND [DOCUMENT]`.

A table stands between `<!-- sql: QUERY -->`, or `<!-- sql of the second store: QUERY -->`, and `<!-- end -->`; the
query may go over several lines. tools/results.sh makes the stores.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import attattr_batch

_BLOCK = re.compile(
    r"<!-- sql(?P<second> of the second store)?:\s*(?P<query>.*?)\s*-->\n.*?<!-- end -->", re.DOTALL
)


def main(store: str, second: str, document: str = "docs/results.md") -> None:
    """Rewrites the document with the stores' numbers."""
    results, path = [attattr_batch.open(one) for one in (store, second)], Path(document)

    def fill(match: re.Match[str]) -> str:
        rows = results[match["second"] is not None].sql(match["query"])
        lines = [f"| {' | '.join(rows.column_names)} |", "|" + "---|" * rows.num_columns]
        lines += [f"| {' | '.join(_cell(value) for value in row.values())} |" for row in rows.to_pylist()]
        head = match[0].split("-->", 1)[0]
        return f"{head}-->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"

    path.write_text(_BLOCK.sub(fill, path.read_text(encoding="utf-8")), encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"
    if isinstance(value, list):
        return " ".join(_cell(one) for one in value)
    return "" if value is None else str(value).replace("|", r"\|")


if __name__ == "__main__":
    main(*sys.argv[1:])
