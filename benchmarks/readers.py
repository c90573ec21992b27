"""Times a run that writes while dashboards read: 20 processes ask what the pages ask, as often as they do.

    python benchmarks/readers.py                       # three rounds, with and without readers
    python benchmarks/readers.py --smoke --out FOLDER  # two readers for a moment, to see that it works

The run's workers are logical: they take no CPU, hand in facts of BERT-base's shape and are as fast as real
ones on a GPU would be. Readers do, and there are more of them than CPUs, which they share with the writer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.context import ForkContext
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import made_up
import numpy as np
from document import RESULTS, provenance, save, table
from scheduler import CHUNK, SleepingWorkers

from attattr_batch.errors import StoreError
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.store.connection import Store, arrow_result
from attattr_batch.store.ingest import commit_chunk

READERS = 20
EVERY_S = 2.0  # what the dashboard's first page does
WAIT_S = 10.0  # how long it waits for the file

# The first page asks again every two seconds while it is open.
REFRESHED = (
    "SELECT * EXCLUDE (run_id) FROM run_summary ORDER BY run_id",
    "SELECT run, kind, committed, failed, total, share, rows_per_second FROM progress"
    " WHERE status <> 'sealed' ORDER BY pass_id",
)
# The others ask once, when somebody goes there or chooses something.
CLICKED = (
    "SELECT layer, head, avg(attr_max), count(*) FROM head_scores"
    " WHERE run_id = 1 AND target = 'gold' GROUP BY ALL ORDER BY ALL",
    "SELECT example_id, attr_max FROM head_scores WHERE run_id = 1 AND target = 'gold'"
    " AND layer = 3 AND head = 5 ORDER BY attr_max DESC, example_id LIMIT 20",
    "SELECT query_pos, key_pos, attr FROM edges"
    " WHERE run_id = 1 AND example_id = 7 AND target = 'gold' AND layer = 3 AND head = 5",
)
CLICK_S = 10.0


@dataclass(frozen=True)
class Load:
    """How much is written, and by how many workers.

    Attributes:
        before: Chunks that are there before the clock starts.
        chunks: Chunks written against the clock.
        workers: Logical workers.
        seconds: Time that each takes for a chunk.
    """

    before: int
    chunks: int
    workers: int
    seconds: float

    @property
    def least_s(self) -> float:
        """Seconds if committing took no time."""
        return self.chunks * self.seconds / self.workers


@dataclass(frozen=True)
class Round:
    """What was measured: seconds of the writer, seconds of every question, questions that failed."""

    writer_s: float
    asked_s: tuple[float, ...]
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for readers.json")
    options = parser.parse_args()
    where = provenance()
    load = Load(2, 4, 2, 0.2) if options.smoke else Load(30, 120, 4, 1.0)
    counts, rounds = ((0, 2), 1) if options.smoke else ((0, READERS), 3)
    # In turns, so that a change of the machine's speed meets both.
    measured: dict[int, list[Round]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            measured[count].append(measure(load, count))
    command = "python benchmarks/readers.py" + (" --smoke" if options.smoke else "")
    tables = [shown(load, measured)]
    save(
        options.out,
        "readers",
        {"title": "Readers beside a run", "command": command, **where, "tables": tables},
    )


def measure(load: Load, readers: int) -> Round:
    """One run into a new store, with readers beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.duckdb"
        context = multiprocessing.get_context("fork")
        # Forked before this process opens a database, whose threads a fork would not have.
        processes, go, stop, answers = start_readers(context, path, readers)
        store, facts = Store(path, create=True), made_up.Facts()
        n_chunks = load.before + load.chunks
        pass_id = made_up.register(store, facts, n_chunks * CHUNK, "bench")
        for number in range(load.before):
            ids = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.int32)
            commit_chunk(store, made_up.chunk_facts(facts, pass_id, ids))
        chunks = made_up.chunks(n_chunks, CHUNK)[load.before :]
        executor = SleepingWorkers(load.workers, load.seconds, facts)
        driver = Driver(store, pass_id, executor, lambda progress: None)
        go.set()
        started = time.perf_counter()
        driver.execute(chunks, Progress(n_chunks * CHUNK, load.before * CHUNK, 0))
        writer_s = time.perf_counter() - started
        stop.set()
        collected = [answers.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        with store.read() as connection:
            assert arrow_result(connection, "SELECT ok FROM integrity").column(0).to_pylist() == [True]
    asked = tuple(seconds for times, _ in collected for seconds in times)
    return Round(writer_s, asked, sum(failed for _, failed in collected))


def start_readers(context: ForkContext, path: Path, count: int) -> tuple[list[Any], Event, Event, Any]:
    """Starts readers, which wait for the first event and end at the second; they answer in the queue."""
    go, stop, answers = context.Event(), context.Event(), context.Queue()
    processes = [
        context.Process(target=read_until, args=(path, number, go, stop, answers)) for number in range(count)
    ]
    for process in processes:
        process.start()
    return processes, go, stop, answers


def read_until(path: Path, number: int, go: Event, stop: Event, answers: Any) -> None:
    """Asks what the first page asks, and now and then what another one does."""
    chance = random.Random(number)
    go.wait()
    time.sleep(chance.uniform(0, EVERY_S))
    times, failed = [], 0
    while not stop.is_set():
        begun = time.perf_counter()
        clicked = [chance.choice(CLICKED)] if chance.random() < EVERY_S / CLICK_S else []
        for sql in (*REFRESHED, *clicked):
            started = time.perf_counter()
            try:
                with Store(path, timeout_s=WAIT_S).read() as connection:
                    arrow_result(connection, sql)
            except StoreError:
                failed += 1
            times.append(time.perf_counter() - started)
        stop.wait(max(0.0, EVERY_S - (time.perf_counter() - begun)))
    answers.put((times, failed))


def shown(load: Load, measured: dict[int, list[Round]]) -> dict[str, Any]:
    """The table."""
    rows: list[list[Any]] = []
    alone = median(one.writer_s for one in measured[0])
    for count, rounds in measured.items():
        asked = [seconds for one in rounds for seconds in one.asked_s]
        seconds = median(one.writer_s for one in rounds)
        rows.append(
            [
                count,
                ", ".join(f"{one.writer_s:.1f}" for one in rounds),
                f"{load.chunks * CHUNK / seconds:.0f}",
                f"{seconds / alone - 1:+.0%}",
                len(asked),
                sum(one.failed for one in rounds),
                f"{median(asked) * 1000:.0f}" if asked else "",
                f"{quantiles(asked, n=20)[-1] * 1000:.0f}" if asked else "",
                f"{max(asked) * 1000:.0f}" if asked else "",
            ]
        )
    columns = (
        "readers",
        "writer s, by round",
        "examples/s",
        "slower by",
        "questions",
        "failed",
        "ms a question, median",
        "95 %",
        "largest",
    )
    note = (
        f"{load.chunks} chunks of {CHUNK} examples, 144 heads with edges, {load.workers} workers that take"
        f" {load.seconds:g} s each: {load.least_s:.0f} s if committing took no time. Each reader is a process"
        f" that asks {len(REFRESHED)} questions every {EVERY_S:g} s, and another every {CLICK_S:g} s."
    )
    return table("Twenty dashboards", columns, rows, note)


if __name__ == "__main__":
    main()
