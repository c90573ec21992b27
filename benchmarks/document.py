"""Results of benchmarks: kept as JSON in benchmarks/results/, shown together in BENCHMARKS.md.

`python benchmarks/document.py` writes BENCHMARKS.md again from the results. Only results of real data get
there: without ATTATTR_REAL_DATA, and with `--smoke`, results go to benchmarks/results-bundled/, which git
ignores, and BENCHMARKS.md is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from attattr_batch.identity import IDENTITY_VERSION

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
UNDOCUMENTED = ROOT / "benchmarks" / "results-bundled"
VERSIONS = ("torch", "transformers", "duckdb", "ray")
ENGINE = ("sst2", "mnli", "rte", "shapes", "growth", "memory")
PARTS = ("scheduler", "scheduler-scale", "store", "store-large", "load", "dashboard", "readers")
GPU = ("run", "run-two", "run-float32", "base", "large", "checkpoints", "scan", "rates")
ORDER = (*(f"engine-{part}" for part in ENGINE), *(f"gpu-{part}" for part in GPU), *PARTS)
"""Results in the order of BENCHMARKS.md."""

INTRODUCTION = (
    "# Measurements",
    "",
    "Made by `ATTATTR_REAL_DATA=DIR make bench` from the files in `benchmarks/results/`. Each section names"
    " the command, the commit, the identity version of the runs, the date and the load average just before."
    "{gpu}",
    "",
    "## The main job",
    "",
    "By `benchmarks/main_job.py`. Wall time includes start-up; memory is the largest resident sum of the"
    " whole process tree.",
    "",
)
NO_GPU = (
    " No GPU was at hand: every number is from CPUs, and the CUDA path is tested for what it shares with them"
    " alone."
)
ON_GPU = " Sections that begin with `On a GPU` are made by `bash benchmarks/gpu.sh`, and all others on CPUs."
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
    "made",
)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where results go."""
    parser.add_argument("--out", type=Path, help="folder for the results (default: benchmarks/results)")


def out_folder(out: Path | None, *, smoke: bool = False) -> Path:
    """The folder of the results: as told, else the documented one, if these results are of real data."""
    return out or (RESULTS if "ATTATTR_REAL_DATA" in os.environ and not smoke else UNDOCUMENTED)


def commit() -> str:
    """The commit that is measured; says so where files that could matter differ from it, or nobody knows."""
    changed = ["status", "--porcelain", "--untracked-files=no", "--", "attattr_batch", "benchmarks/*.py"]
    try:
        changes = _git(*changed, "jobs", "schema", "dashboards", "constraints.txt")
        return _git("rev-parse", "--short=10", "HEAD") + (" with changes" if changes else "")
    except (FileNotFoundError, subprocess.CalledProcessError):  # a copy of the files alone
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def provenance(gpu: str = "no GPU used", commit_id: str = "") -> dict[str, Any]:
    """What was measured, where and when: commit, identity version, machine, versions, load and date.

    Args:
        gpu: The card, where one is used.
        commit_id: The commit, where git cannot say it.
    """
    return {
        "commit": commit_id[:10] or commit(),
        "identity_version": IDENTITY_VERSION,
        "machine": f"{os.cpu_count()} CPUs, {_processor()}, {gpu}",
        "load_before": os.getloadavg()[0],
        "versions": {name: _version(name) for name in VERSIONS},
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """Name of the processor, and whether it has instructions for bfloat16, without which that is slow."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.machine()
    lines = [line.split(":", 1)[1].strip() for line in facts.splitlines() if line.startswith("model name")]
    bfloat16 = [name for name in ("avx512_bf16", "amx_bf16") if f" {name}" in facts]
    return (
        f"{lines[0] if lines else platform.machine()} ({', '.join(bfloat16) or 'no bfloat16 instructions'})"
    )


Rows = Sequence[Sequence[Any]]


def table(title: str, columns: Sequence[str], rows: Rows, note: str = "") -> dict[str, Any]:
    """One table of a benchmark's result; cells are shown as they are."""
    return {"title": title, "note": note, "columns": list(columns), "rows": [list(row) for row in rows]}


def save(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes and shows a result; in the documented folder BENCHMARKS.md is written again as well."""
    write(folder, name, result)
    show(result)
    if folder == RESULTS:
        (ROOT / "BENCHMARKS.md").write_text(markdown(), encoding="utf-8")


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes a result."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict[str, Any]) -> None:
    """Prints a result as BENCHMARKS.md shows it."""
    print("\n".join(_section(result) if "tables" in result else _main_table([result])))


def markdown() -> str:
    """BENCHMARKS.md, from the documented results."""
    main, *others = (
        [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}.json"))]
        for name in ("main-*", *ORDER)
    )
    on_gpu = any(result["title"].startswith("On a GPU") for result in chain(*others))
    lines = [line.format(gpu=ON_GPU if on_gpu else NO_GPU) for line in INTRODUCTION] + _main_table(main)
    for result in chain(*others):
        lines += ["", *_section(result)]
    machines = sorted({_machine(result) for result in chain(main, *others)})
    lines += ["", "## Machines", "", *(f"- {line}" for line in machines)]
    return "\n".join(lines) + "\n"


def _made(result: dict[str, Any]) -> str:
    return (
        f"commit {result['commit']}, identity version {result['identity_version']}, {result['date']}, load"
        f" {result['load_before']:.1f}"
    )


def _section(result: dict[str, Any]) -> list[str]:
    lines = [f"## {result['title']}", "", f"`{result['command']}` ({_made(result)})"]
    if "older" in result:  # entered by hand where a result was not made again: why
        lines += ["", f"**Older than the rest:** {result['older']}"]
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
        _made(result),
    ]


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _machine(result: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"{result['date']}: {result['machine']}; Python {result['python']}, {packages}"


if __name__ == "__main__":
    (ROOT / "BENCHMARKS.md").write_text(markdown(), encoding="utf-8")
