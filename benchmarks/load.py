"""Times commands on a store of many runs: attribution, resuming, checks, jobs, export, snapshot.

    python benchmarks/load.py --runs 2          # 2.8 million head_scores rows
    python benchmarks/load.py                   # 71 runs of MNLI's dev set, 100 million; 10 GB of disk

Facts are made up, of BERT-base's shape, and go in through the path that runs use; edges are stored for the
first run alone. The run that is added is real: bundled rows and a bundled model.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from document import add_out, out_folder, provenance, save, table
from made_up import Facts
from store import MNLI, fill

from attattr_batch.store.database.connection import Store

CHUNK = 1024
ADDED = ("run", "--task", "sst2", "--model", "bundled", "--data-dir", "bundled", "--limit", "40")
COMMANDS = {
    "a run of 40 rows more": ADDED,
    "the same again: nothing to do": ADDED,
    "status": ("status",),
    "run_summary": ("sql", "select * from run_summary"),
    "job splits": ("jobs", "run", "splits"),
    "a job of one's own over all head_scores": ("jobs", "run", "head_means", "--jobs-dir", "{folder}/jobs"),
    "verify": ("verify",),
    "export of one run with edges": ("export", "run-0", "--to", "{folder}/exported"),
    "snapshot": ("snapshot", "{folder}/copy.duckdb"),
}
# The bundled jobs of importance also have the model answer without each head: made-up runs have no model.
OWN_JOB = """\
-- name: head_means
-- description: Mean and standard error of every head's largest attribution.
-- grain: run_id, layer, head
-- materialized: table
-- audits: head_means_are_finite
-- column mean: Mean.
-- column error: Standard error.
SELECT run_id, layer, head, avg(attr_max) AS mean, stddev_samp(attr_max) / sqrt(count(*)) AS error
FROM head_scores
SEMI JOIN selected_runs USING (run_id)
WHERE target = 'gold'
GROUP BY ALL
"""
OWN_AUDIT = """\
-- name: head_means_are_finite
-- description: Means that are not numbers.
-- grain: run_id, layer, head
SELECT run_id, layer, head FROM head_means WHERE NOT isfinite(mean)
"""
COLUMNS = ("command", "s", "peak MiB", "exit code")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=71, help="runs in the store")
    parser.add_argument("--examples", type=int, default=MNLI, help="examples of each run")
    add_out(parser)
    options = parser.parse_args()
    where = provenance()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = make(folder, options.runs, options.examples)
        with store.read() as connection:
            heads = connection.exec_driver_sql("SELECT count(*) FROM head_scores_dedup").scalar_one()
        size = store.path.stat().st_size
        rows = list(time_commands(COMMANDS, store.path, folder))
    note = (
        f"{options.runs} runs, {heads / 1e6:.1f} million rows of head_scores, {size / 2**20:,.0f} MiB. Each"
        " command is a process of its own, start-up included; memory is its largest resident set. Exit code 1"
        " of verify is right: made-up numbers are no attributions."
    )
    command = f"python benchmarks/load.py --runs {options.runs} --examples {options.examples}"
    result = {"title": "Commands on a large store", "command": command, **where}
    save(out_folder(options.out), "load", {**result, "tables": [table("Commands", COLUMNS, rows, note)]})


def make(folder: Path, n_runs: int, n_examples: int) -> Store:
    """Makes a store of made-up runs, and the job of one's own."""
    store = Store(folder / "load.duckdb", create=True)
    for run in range(n_runs):
        fill(store, Facts(edges=run == 0), n_examples, CHUNK, f"run-{run}")
    store.checkpoint()
    (folder / "jobs" / "audits").mkdir(parents=True)
    (folder / "jobs" / "head_means.sql").write_text(OWN_JOB)
    (folder / "jobs" / "audits" / "head_means_are_finite.sql").write_text(OWN_AUDIT)
    return store


def time_commands(commands: Mapping[str, Sequence[str]], db: Path, folder: Path) -> Iterator[list[Any]]:
    """Runs the commands one after the other."""
    for name, words in commands.items():
        arguments = [word.format(folder=folder) for word in words]
        started = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "attattr_batch", *arguments, "--db", str(db)],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        )
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - started
        yield [name, f"{seconds:.1f}", usage.ru_maxrss // 1024, os.waitstatus_to_exitcode(status)]


if __name__ == "__main__":
    main()
