"""Times the main job through the command line and writes BENCHMARKS.md.

    python benchmarks/main_job.py                          # the bundled data
    ATTATTR_REAL_DATA=DIR python benchmarks/main_job.py --task sst2 --task rte

With ATTATTR_REAL_DATA (models/, data/glue/) the tasks are real; each run is timed from an empty store, its
process tree sampled for memory, and its results read back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from document import out_folder, provenance, save

MODELS = {"sst2": "SST-2", "rte": "RTE", "mrpc": "MRPC", "mnli": "MNLI"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", action="append", help="may be repeated; default: every bundled task")
    parser.add_argument("--limit", type=int, help="first rows only")
    parser.add_argument("--extra", default="", help="more flags for `attattr run`")
    options = parser.parse_args()
    real = os.environ.get("ATTATTR_REAL_DATA")
    tasks = options.task or ([] if real else ["sst2", "mrpc", "rte", "mnli"]) or list(MODELS)[:2]
    for task in tasks:
        result = time_run(task, Path(real) if real else None, options)
        name = (
            f"main-{'real' if real else 'bundled'}-{task}{'-' + str(options.limit) if options.limit else ''}"
        )
        save(out_folder(None), name, result)


def time_run(task: str, real: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    flags = ["--task", task, *options.extra.split()]
    if options.limit:
        flags += ["--limit", str(options.limit)]
    shown = ["attattr", "run", *flags]
    if real is None:
        places, expected = ["--model", "bundled", "--data-dir", "bundled"], None
        shown += places
    else:
        model = real / "models" / MODELS[task]
        places = ["--model", str(model), "--data-dir", str(real / "data" / "glue")]
        shown += ["--model", f"models/{MODELS[task]}", "--data-dir", "data/glue"]
        expected = None if options.limit else json.loads((model / "finetune.json").read_text())["dev_acc"]
    with tempfile.TemporaryDirectory() as scratch:
        database = str(Path(scratch) / "bench.duckdb")
        command = [sys.executable, "-m", "attattr_batch", "run", *flags, *places, "--db", database]
        where, started = provenance(), time.perf_counter()
        process = subprocess.Popen([*command, "--format", "json", "-q"], stdout=subprocess.PIPE, text=True)
        peak = sample_memory(process)
        output = process.communicate()[0]
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(shown)}: exit code {process.returncode}, see above")
        (summary,) = json.loads(output)
        rows = ask(database, "select target, count(*) n from head_scores group by all order by all")
        nodes = ask(database, "select avg(nodes) n from layer_scores_dedup")[0]["n"]
        megabytes = Path(database).stat().st_size / 2**20
    return {
        "command": " ".join(shown),
        "task": task,
        "summary": summary,
        "expected_accuracy": expected,
        "wall_seconds": seconds,
        "peak_mib": peak / 2**20,
        "head_scores": {row["target"]: row["n"] for row in rows},
        "mean_nodes": nodes,
        "store_mib": megabytes,
        **where,
    }


def sample_memory(process: subprocess.Popen[str]) -> int:
    """Waits for the process; returns the largest resident memory of its whole tree, in bytes."""
    peak, tree = 0, psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for one in [tree, *tree.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, total)
        time.sleep(0.2)
    return peak


def ask(database: str, sql: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "attattr_batch", "sql", sql, "--db", database, "--format", "json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
