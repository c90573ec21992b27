"""Results of benchmarks: kept as JSON in benchmarks/results/, shown together in BENCHMARKS.md.

`python benchmarks/document.py` writes BENCHMARKS.md again from the results.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
VERSIONS = ("torch", "transformers", "duckdb", "ray")
ENGINE = ("sst2", "mnli", "rte", "shapes", "growth", "memory")
PARTS = ("scheduler", "scheduler-scale", "store", "store-large", "load", "dashboard", "readers")
ORDER = (*(f"engine-{part}" for part in ENGINE), *PARTS)
"""Results in the order of BENCHMARKS.md."""

INTRODUCTION = (
    "# Measurements",
    "",
    "Made by `make bench` from the files in `benchmarks/results/`. No GPU was at hand: every number is from"
    " CPUs, and the CUDA path is tested for what it shares with them alone.",
    "",
    "## The main job",
    "",
    "By `benchmarks/main_job.py`. Wall time includes start-up; memory is the largest resident sum of the"
    " whole process tree; the load average before the run says how quiet the machine was.",
    "",
)
MAIN_COLUMNS = (
    "command",
    "rows",
    "accuracy (checkpoint's own)",
    "head_scores gold / predicted",
    "largest completeness error",
    "mean nodes",
    "wall s",
    "rows/s",
    "peak MiB",
    "store MiB",
    "load before",
)


def provenance() -> dict[str, Any]:
    """Where and when: machine, versions, load and date."""
    return {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, no GPU used",
        "load_before": os.getloadavg()[0],
        "versions": {name: version(name) for name in VERSIONS},
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


Rows = Sequence[Sequence[Any]]


def table(title: str, columns: Sequence[str], rows: Rows, note: str = "") -> dict[str, Any]:
    """One table of a benchmark's result; cells are shown as they are."""
    return {"title": title, "note": note, "columns": list(columns), "rows": [list(row) for row in rows]}


def save(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes a result; in the repository's own folder BENCHMARKS.md is written again as well."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(_section(result) if "tables" in result else _main_table([result])))
    if folder == RESULTS:
        write_markdown()


def write_markdown() -> None:
    main, *others = (
        [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}.json"))]
        for name in ("main-*", *ORDER)
    )
    lines = [*INTRODUCTION, *_main_table(main)]
    for result in chain(*others):
        lines += ["", *_section(result)]
    machines = sorted({_machine(result) for result in chain(main, *others)})
    lines += ["", "## Machines", "", *(f"- {line}" for line in machines)]
    (ROOT / "BENCHMARKS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _section(result: dict[str, Any]) -> list[str]:
    lines = [f"## {result['title']}", "", f"`{result['command']}`, load before {result['load_before']:.1f}."]
    for part in result["tables"]:
        lines += ["", f"**{part['title']}** {part['note']}".rstrip(), ""]
        lines += _grid(part["columns"], part["rows"])
    return lines


def _main_table(results: Sequence[dict[str, Any]]) -> list[str]:
    return _grid(MAIN_COLUMNS, [_main_row(result) for result in results])


def _main_row(result: dict[str, Any]) -> list[str]:
    summary, heads = result["summary"], result["head_scores"]
    own = "" if result["expected_accuracy"] is None else f" ({result['expected_accuracy']:.6f})"
    note = f" {result['note']}" if "note" in result else ""
    return [
        f"`{result['command']}`{note}",
        f"{summary['committed']}",
        f"{summary['accuracy']:.6f}{own}",
        f"{heads.get('gold', 0)} / {heads.get('predicted', 0)}",
        f"{summary['worst_completeness_error']:.1e}",
        f"{result['mean_nodes']:.1f}",
        f"{result['wall_seconds']:.0f}",
        f"{summary['committed'] / result['wall_seconds']:.1f}",
        "" if result["peak_mib"] is None else f"{result['peak_mib']:.0f}",
        f"{result['store_mib']:.0f}",
        f"{result['load_before']:.1f}",
    ]


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _machine(result: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"{result['date']}: {result['machine']}; Python {result['python']}, {packages}"


if __name__ == "__main__":
    write_markdown()
