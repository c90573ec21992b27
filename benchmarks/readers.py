"""Times a run that writes while dashboards read what their pages read, as often as they do.

    python benchmarks/readers.py                       # three rounds: alone, 20 viewers, 20 dashboards
    python benchmarks/readers.py --smoke --out FOLDER  # two readers for a moment, to see that it works

Readers go through the dashboard's own way of reading, its cache included, but draw nothing. The run's workers
are logical: they take no CPU, hand in facts of BERT-base's shape and are as fast as real ones on a GPU would
be. Readers do take CPU, and share it with the writer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import made_up
import numpy as np
from document import ROOT, add_out, out_folder, provenance, save, table
from scheduler import CHUNK, SleepingWorkers

from attattr_batch.errors import StoreError
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import commit_chunk

# The dashboard's own modules, as its server sees them.
sys.path.insert(0, str(ROOT / "dashboards"))
import reading
from streamlit.logger import set_log_level

set_log_level("CRITICAL")  # that there is no server is meant

EVERY_S = 2.0  # what the dashboard's first page does

# The first page asks again every two seconds while it is open.
REFRESHED = tuple((f"questions/{name}", {"runs": [1]}) for name in ("summary", "progress"))
# The others ask once, when somebody goes there or chooses something.
OF_RUN = {"run_id": 1, "class": "gold"}
CLICKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("questions/head_means", {**OF_RUN, "run": "one", "criterion": "attattr", "gold": None}),
    ("questions/head_examples", {**OF_RUN, "layer": 3, "head": 5, "gold": None}),
    ("questions/edges", {**OF_RUN, "example": 7, "layer": 3, "head": 5}),
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
class Readers:
    """Who reads: so many dashboards, each with so many people before it."""

    name: str
    dashboards: int
    viewers: int


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
    add_out(parser)
    options = parser.parse_args()
    where = provenance()
    load = Load(2, 4, 2, 0.2) if options.smoke else Load(30, 120, 4, 1.0)
    viewers, rounds = (2, 1) if options.smoke else (20, 3)
    kinds = (
        Readers("nobody", 0, 0),
        Readers(f"one dashboard, {viewers} viewers", 1, viewers),
        Readers(f"{viewers} dashboards", viewers, 1),
    )
    # In turns, so that a change of the machine's speed meets all.
    measured: dict[Readers, list[Round]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            measured[kind].append(measure(load, kind))
    command = "python benchmarks/readers.py" + (" --smoke" if options.smoke else "")
    tables = [shown(load, measured)]
    save(
        out_folder(options.out, smoke=options.smoke),
        "readers",
        {"title": "Readers beside a run", "command": command, **where, "tables": tables},
    )


def measure(load: Load, readers: Readers) -> Round:
    """One run into a new store, with readers beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.duckdb"
        # Not forked from this process: a fork would lack the threads of the databases opened so far.
        context = multiprocessing.get_context("forkserver")
        start, stop, answers = context.Barrier(readers.dashboards + 1), context.Event(), context.Queue()
        for number in range(readers.dashboards):
            about = (path, number, readers.viewers, start, stop, answers)
            context.Process(target=look, args=about, daemon=True).start()
        store, facts = Store(path, create=True), made_up.Facts()
        n_chunks = load.before + load.chunks
        pass_id = made_up.register(store, facts, n_chunks * CHUNK, "bench")
        for number in range(load.before):
            ids = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.int32)
            commit_chunk(store, pass_id, made_up.chunk_facts(facts, ids))
        chunks = made_up.chunks(n_chunks, CHUNK)[load.before :]
        executor = SleepingWorkers(load.workers, load.seconds, facts)
        driver = Driver(store, pass_id, executor, lambda progress: None)
        start.wait(timeout=120)
        started = time.perf_counter()
        driver.execute(chunks, Progress(n_chunks * CHUNK, load.before * CHUNK, 0))
        writer_s = time.perf_counter() - started
        stop.set()
        collected = [answers.get(timeout=120) for _ in range(readers.dashboards)]
        with store.read() as connection:
            assert not connection.exec_driver_sql(made_up.AUDIT).all()
    asked = tuple(seconds for times, _ in collected for seconds in times)
    return Round(writer_s, asked, sum(failed for _, failed in collected))


def look(path: Path, number: int, viewers: int, start: Barrier, stop: Event, answers: Any) -> None:
    """One dashboard: answers with the seconds of every question, and how many failed."""
    os.environ["ATTATTR_DB"] = str(path)
    times: list[float] = []
    failed: list[StoreError] = []
    people = [
        threading.Thread(target=view, args=(number * viewers + person, stop, times, failed))
        for person in range(viewers)
    ]
    start.wait()
    for one in people:
        one.start()
    for one in people:
        one.join()
    answers.put((times, len(failed)))


def view(seed: int, stop: Event, times: list[float], failed: list[StoreError]) -> None:
    """One viewer: asks what the first page asks, and now and then what another one does."""
    chance = random.Random(seed)
    time.sleep(chance.uniform(0, EVERY_S))
    while not stop.is_set():
        begun = time.perf_counter()
        clicked = [chance.choice(CLICKED)] if chance.random() < EVERY_S / CLICK_S else []
        for name, values in (*REFRESHED, *clicked):
            started = time.perf_counter()
            try:
                reading.rows(name, **values)
            except StoreError as error:
                failed.append(error)
            times.append(time.perf_counter() - started)
        stop.wait(max(0.0, EVERY_S - (time.perf_counter() - begun)))


def shown(load: Load, measured: dict[Readers, list[Round]]) -> dict[str, Any]:
    """The table."""
    rows: list[list[Any]] = []
    alone = median(one.writer_s for kind, rounds in measured.items() for one in rounds if not kind.dashboards)
    for kind, rounds in measured.items():
        asked = [seconds for one in rounds for seconds in one.asked_s]
        seconds = median(one.writer_s for one in rounds)
        rows.append(
            [
                kind.name,
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
        f" {load.seconds:g} s each: {load.least_s:.0f} s if committing took no time. A viewer asks"
        f" {len(REFRESHED)} questions every {EVERY_S:g} s, and another every {CLICK_S:g} s; a dashboard reads"
        " the store again once it has changed."
    )
    return table("Dashboards beside a run", columns, rows, note)


if __name__ == "__main__":
    main()
