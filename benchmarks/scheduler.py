"""Times the driver: committed chunks a second, efficiency with many workers, and what Ray costs.

    python benchmarks/scheduler.py
    ATTATTR_REAL_DATA=DIR python benchmarks/scheduler.py     # Ray on a real checkpoint
    python benchmarks/scheduler.py --scale                   # a million examples, 200 logical workers
    python benchmarks/scheduler.py --smoke --out FOLDER      # a few chunks, to see that it works

Throughput and efficiency are the driver's own: workers are logical, they hand in facts of BERT-base's shape
made beforehand and take no CPU. What Ray costs is measured on real work beyond start-up.
"""

from __future__ import annotations

import argparse
import heapq
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_up
import numpy as np
import pyarrow as pa
from document import add_out, out_folder, provenance, save, table

from attattr_batch.data.records import Chunk
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Executor, Finished
from attattr_batch.runtime.executors.ray import RayExecutor
from attattr_batch.spec import WorkerPool, make_spec
from attattr_batch.store.database.connection import Store

if TYPE_CHECKING:
    from attattr_batch.passes.planning import AttributionPlan

CHUNK = 64
WORKERS = (1, 4, 16, 64)


class SleepingWorkers:
    """An executor of logical workers: each takes `seconds` for a chunk and no CPU."""

    def __init__(self, workers: int, seconds: float, facts: made_up.Facts):
        self._workers, self._seconds = workers, seconds
        self._tables = facts.tables(np.arange(CHUNK, dtype=np.int32))
        self._busy: list[tuple[float, int, Chunk]] = []

    def room(self) -> bool:
        """Whether a worker is idle."""
        return len(self._busy) < self._workers

    def submit(self, chunk: Chunk) -> None:
        """Starts a chunk."""
        heapq.heappush(self._busy, (time.perf_counter() + self._seconds, chunk.example_ids[0], chunk))

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Sleeps until the first worker is done; returns all that are."""
        time.sleep(max(0.0, self._busy[0][0] - time.perf_counter()))
        done: list[ChunkOutcome] = []
        while self._busy and self._busy[0][0] <= time.perf_counter():
            chunk = heapq.heappop(self._busy)[2]
            done.append(Finished(chunk, self._moved(chunk.example_ids[0]), "asleep", self._seconds))
        return done

    def close(self) -> None:
        """Nothing to end."""

    def _moved(self, first: int) -> dict[str, pa.Table]:
        """The facts made beforehand, as those of the examples from `first` on."""
        moved = {}
        for name, rows in self._tables.items():
            at = rows.column_names.index("example_id")
            ids = pa.array(rows["example_id"].to_numpy() + first)
            moved[name] = rows.set_column(at, "example_id", ids)
        label = pa.array(((np.arange(CHUNK) + first) % 3).astype(np.uint16))
        for column in ("gold", "predicted"):
            at = moved["predictions"].column_names.index(column)
            moved["predictions"] = moved["predictions"].set_column(at, column, label)
        return moved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few chunks, no Ray")
    parser.add_argument("--scale", action="store_true", help="a million examples, 200 logical workers")
    parser.add_argument("--keep", type=Path, help="with --scale: keep the store here")
    parser.add_argument("--rows", type=int, default=512, help="rows of the real work")
    add_out(parser)
    options = parser.parse_args()
    where = provenance()
    if options.smoke:
        tables = [throughput(2), efficiency((2,), seconds=0.1), scale(40 * CHUNK, 4, 0.1, options.keep)]
    elif options.scale:
        tables = [scale(1_000_000, 200, 4.0, options.keep)]
    else:
        tables = [throughput(150), efficiency(WORKERS, seconds=1.0), ray_on_real_work(options.rows)]
    flags = "".join(f" --{flag}" for flag in ("smoke", "scale") if getattr(options, flag))
    result = {"title": "The scheduler", "command": f"python benchmarks/scheduler.py{flags}", **where}
    name = "scheduler-scale" if options.scale else "scheduler"
    save(out_folder(options.out, smoke=options.smoke), name, {**result, "tables": tables})


def throughput(n_chunks: int) -> dict[str, Any]:
    """How fast the driver commits when workers are never waited for."""
    rows = []
    shapes = {
        "144 heads, edges": made_up.Facts(),
        "144 heads, no edges": made_up.Facts(edges=False),
        "6 heads, no edges": made_up.Facts(2, 3, edges=False),
    }
    for name, facts in shapes.items():
        seconds = drive(SleepingWorkers(max(WORKERS), 0.05, facts), facts, n_chunks)
        per_chunk = {table: rows.num_rows for table, rows in facts.tables(np.arange(CHUNK)).items()}
        rate = n_chunks / seconds
        rows.append(
            [
                name,
                n_chunks,
                f"{rate:.1f}",
                f"{rate * CHUNK:,.0f}",
                f"{rate * per_chunk['head_scores']:,.0f}",
                f"{rate * sum(per_chunk.values()):,.0f}",
            ]
        )
    columns = ("facts", "chunks", "chunks/s", "examples/s", "head_scores rows/s", "all rows/s")
    note = f"Chunks of {CHUNK} examples, {max(WORKERS)} workers that are done after 0.05 s."
    return table("Throughput of the driver", columns, rows, note)


def efficiency(workers: Sequence[int], seconds: float) -> dict[str, Any]:
    """How much of many workers' time is used when each takes `seconds` for a chunk."""
    rows, facts = [], made_up.Facts()
    for count in workers:
        per_worker = 4
        wall = drive(SleepingWorkers(count, seconds, facts), facts, count * per_worker)
        used = per_worker * seconds / wall
        rows.append([count, count * per_worker, f"{wall:.1f}", f"{used:.0%}"])
    columns = ("workers", "chunks", "wall s", "efficiency")
    note = (
        f"144 heads with edges, {seconds:g} s a chunk; all workers start together, so chunks come in bursts."
    )
    return table("Sleeping workers", columns, rows, note)


def scale(n_examples: int, workers: int, seconds: float, keep: Path | None) -> dict[str, Any]:
    """A long run: whether the driver keeps up, whether its memory grows, whether all is there."""
    facts, n_chunks = made_up.Facts(edges=False), n_examples // CHUNK
    marks: list[list[str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        store = Store((keep or Path(scratch)) / "scale.duckdb", create=True)
        pass_id = made_up.register(store, facts, n_chunks * CHUNK, "scale")
        chunks = made_up.chunks(n_chunks, CHUNK)

        def mark(progress: Progress) -> None:
            if progress.committed >= (len(marks) + 1) * progress.total // 5:
                ideal = progress.committed / CHUNK / workers * seconds
                marks.append(
                    [
                        f"{progress.committed:,}",
                        f"{progress.seconds:.0f}",
                        f"{ideal / progress.seconds:.0%}",
                        f"{_resident_mib():.0f}",
                        f"{store.path.stat().st_size / 2**20:.0f}",
                    ]
                )

        progress = Progress(n_chunks * CHUNK, 0, 0)
        Driver(store, pass_id, SleepingWorkers(workers, seconds, facts), mark).execute(chunks, progress)
        with store.read() as connection:
            found = connection.exec_driver_sql(
                f"SELECT count(*), count(DISTINCT example_id), NOT EXISTS ({made_up.AUDIT}),"
                " (SELECT count(*) FROM head_scores_dedup) FROM ledger"
            ).one()
    assert found[:3] == (n_chunks * CHUNK, n_chunks * CHUNK, True), found
    note = (
        f"{workers} logical workers, {seconds:g} s a chunk of {CHUNK}, 144 heads without edges. At the end"
        f" the ledger held every example once and {found[3]:,} head_scores rows; the audit of both agreed."
    )
    columns = ("examples committed", "s", "efficiency so far", "driver MiB resident", "store MiB")
    return table("A long run", columns, marks, note)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def drive(executor: Executor, facts: made_up.Facts, n_chunks: int) -> float:
    """Seconds for the driver to commit chunks of made-up facts into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "bench.duckdb", create=True)
        pass_id = made_up.register(store, facts, n_chunks * CHUNK, "bench")
        return _execute(store, pass_id, executor, made_up.chunks(n_chunks, CHUNK))


def ray_on_real_work(n_rows: int) -> dict[str, Any]:
    """Attribution of SST-2 rows in process, and by Ray workers of one thread each."""
    plan = _plan()
    chunks = plan.chunks([example.example_id for example in plan.examples])[:: max(1, 872 // n_rows)]
    chunks = [half for chunk in chunks for half in chunk.halves() if half.examples]
    work = replace(plan.work, threads=1)
    n_examples = sum(len(chunk.examples) for chunk in chunks)
    rows, base = [], 0.0
    ways: dict[str, Callable[[], LocalExecutor | RayExecutor]] = {
        "in process": lambda: LocalExecutor(work),
        "Ray, 1 worker": lambda: RayExecutor([(work, WorkerPool())]),
        "Ray, 2 workers": lambda: RayExecutor([(work, WorkerPool(count=2))]),
    }
    for name, make in ways.items():
        started = time.perf_counter()
        with closing(make()) as executor, tempfile.TemporaryDirectory() as folder:
            _wait_for_workers(executor, 2 if "2" in name else 1)
            ready = time.perf_counter() - started
            store = Store(Path(folder) / "bench.duckdb", create=True)
            facts = made_up.Facts(plan.architecture[1], plan.architecture[2])
            pass_id = made_up.register(store, facts, len(plan.examples), "bench")
            seconds = _execute(store, pass_id, executor, chunks)
        base = base or seconds
        speed, relative = f"{n_examples / seconds:.1f}", f"{base / seconds:.2f}"
        rows.append([name, f"{ready:.1f}", f"{seconds:.1f}", speed, relative])
    columns = ("executor", "start-up s", "work s", "rows/s", "speed relative to in process")
    note = f"{n_examples} SST-2 rows in {len(chunks)} chunks, one thread a worker, commits included."
    return table("Ray on real work", columns, rows, note)


def _plan() -> AttributionPlan:
    # With torch, which logical workers do without.
    from workloads import FOLDERS

    from attattr_batch.passes.planning import plan_attribution

    real = os.environ.get("ATTATTR_REAL_DATA")
    model = str(Path(real) / "models" / FOLDERS["sst2"]) if real else "bundled"
    data = str(Path(real) / "data" / "glue") if real else "bundled"
    return plan_attribution(make_spec({"task": "sst2", "model": model, "data_dir": data, "device": "cpu"}))


def _wait_for_workers(executor: Executor, count: int) -> None:
    """Returns when `count` workers have their model."""
    if isinstance(executor, RayExecutor):
        while len(executor._idle) < count:
            executor.wait(1.0)
    else:
        executor.wait(0.0)


def _execute(store: Store, pass_id: int, executor: Executor, chunks: Sequence[Chunk]) -> float:
    n_examples = sum(len(chunk.examples) for chunk in chunks)
    started = time.perf_counter()
    progress = Driver(store, pass_id, executor, lambda progress: None).execute(
        chunks, Progress(n_examples, 0, 0)
    )
    assert progress.newly_committed == n_examples, f"{progress.quarantined} examples failed"
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
