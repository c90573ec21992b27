"""How far one driver and one writer go: many logical workers that only sleep, real commits.

    python benchmarks/driver_scale.py --examples 20000 --workers 200 --seconds 0.2
    python benchmarks/driver_scale.py --commits 30 --layers 12 --heads 12

The first prints how busy the workers were kept, the driver's memory as it goes, and whether the ledger is
exact; the second how fast chunks of a model's real shape are committed, and their size on disk. CPU seconds
are the process's own, which a busy machine does not change much. Figures go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from sqlalchemy import text

from attattr_batch.records import Chunk, EncodedExample
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors import Finished, Outcome
from attattr_batch.store.connection import Store
from attattr_batch.store.ingest import ChunkFacts, commit_chunk
from attattr_batch.store.runs import RunRecord, register_pass, register_run

CHUNK = 64
TOP_K = 5
LAYER_EDGES = 40  # what SST-2 rows of a fine-tuned encoder keep in a layer, about
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Shape:
    """Layers and heads of the model whose rows are made up."""

    layers: int
    heads: int


def facts(ids: np.ndarray, shape: Shape) -> dict[str, pa.Table]:
    """Rows of the examples, as a worker hands them in for the predicted class."""
    n, (layers, heads) = len(ids), (shape.layers, shape.heads)
    noise = np.random.default_rng(int(ids[0]))

    def keys(*sizes: int) -> list[np.ndarray]:
        grid = np.indices((n, *sizes)).reshape(1 + len(sizes), -1)
        return [ids[grid[0]], *grid[1:]]

    def table(columns: dict[str, np.ndarray | pa.Array], values: list[str], positions: list[str]) -> pa.Table:
        size = len(columns["example_id"])
        columns = columns | {"target": pa.repeat(pa.scalar("predicted"), size)}
        columns |= {name: noise.random(size, dtype=np.float32) for name in values}
        return pa.table(columns | {name: noise.integers(0, 30, size) for name in positions})

    (example,) = keys()
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (n, 1))
    predictions = {
        "example_id": example,
        "gold": np.ones(n, np.int64),
        "predicted": np.ones(n, np.int64),
        "prob_gold": probabilities[:, 1],
        "prob_predicted": probabilities[:, 1],
        "probabilities": pa.array(list(probabilities)),
        "n_tokens": np.full(n, 30),
        "truncated": np.zeros(n, bool),
    }
    in_layer = dict(zip(("example_id", "layer"), keys(layers), strict=True))
    in_head = dict(zip(("example_id", "layer", "head"), keys(layers, heads), strict=True))
    in_edge = dict(zip(("example_id", "layer", "head", "rank"), keys(layers, heads, TOP_K), strict=True))
    of_layer = dict(zip(("example_id", "layer"), keys(layers, LAYER_EDGES)[:2], strict=True))
    of_layer["query_pos"] = np.tile(np.arange(LAYER_EDGES), n * layers)
    places = ["attr_max_query", "attr_max_key", "attr_second_query", "attr_second_key"]
    scores = (
        "attr_max attr_second attr_sum attr_positive_sum attn_max attn_confidence taylor kept_mass".split()
    )
    errors = "f_full f_zero completeness_error path_error agreement_error off_first_max edge_floor kept_mass"
    return {
        "predictions": pa.table(predictions),
        "target_scores": table({"example_id": example}, ["tree_top_mass"], ["label", "tree_top"]),
        "layer_scores": table(in_layer, errors.split(), ["nodes"]),
        "head_scores": table(in_head, scores, places),
        "edges": table(in_edge, ["attr", "attn"], ["query_pos", "key_pos", "query_token", "key_token"]),
        "layer_edges": table(of_layer, ["attr"], ["key_pos"]),
    }


class SleepingExecutor:
    """Workers that take their time and nothing else; rows are made when a chunk is done."""

    def __init__(self, workers: int, seconds: float, shape: Shape):
        self._workers, self._seconds, self._shape = workers, seconds, shape
        self._running: list[tuple[float, int, Chunk]] = []

    def room(self) -> bool:
        """Whether a worker is idle."""
        return len(self._running) < self._workers

    def submit(self, chunk: Chunk) -> None:
        """Hands a chunk to a worker."""
        done = time.monotonic() + self._seconds * len(chunk.examples)
        heapq.heappush(self._running, (done, chunk.example_ids[0], chunk))

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Sleeps until a worker is done."""
        now = time.monotonic()
        time.sleep(max(0.0, min(timeout_s, self._running[0][0] - now)))
        outcomes: list[Outcome] = []
        now = time.monotonic()
        while self._running and self._running[0][0] <= now:
            _, first, chunk = heapq.heappop(self._running)
            tables = facts(np.array(chunk.example_ids), self._shape)
            seconds = self._seconds * len(chunk.examples)
            outcomes.append(Finished(chunk, tables, f"logical:{first % self._workers}", seconds))
        return outcomes

    def close(self) -> None:
        """Forgets what is running."""
        self._running.clear()


def new_pass(store: Store, n_examples: int, shape: Shape) -> int:
    ids = np.arange(n_examples)
    examples = {
        "example_id": ids,
        "text_a": pa.repeat(pa.scalar("a made-up example"), n_examples),
        "gold": np.ones(n_examples, np.int64),
    }
    record = RunRecord(
        name="simulated",
        run_key="simulated",
        labels=["negative", "positive"],
        task="simulated",
        split="none",
        model="none",
        family="bert",
        n_layers=shape.layers,
        n_heads=shape.heads,
        n_examples=n_examples,
        target="predicted",
        quadrature="adaptive",
        nodes=None,
        tolerance=1e-3,
        dtype="float32",
        tokenizer_key="none",
        config={},
        identity={},
        provenance={},
    )
    with store.write() as connection:
        run_id = register_run(connection, record, {"examples": pa.table(examples)})
        return register_pass(connection, run_id, "attribute", "simulated", {}, n_examples)


def simulate(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    shape, n = Shape(arguments.layers, arguments.heads), arguments.examples
    store = Store(folder / "simulated.duckdb", create=True)
    pass_id = new_pass(store, n, shape)
    blank = [EncodedExample(i, (1, 2), None, (None, None), 1, False) for i in range(n)]
    chunks = [Chunk(tuple(blank[start : start + CHUNK])) for start in range(0, n, CHUNK)]
    process, resident = psutil.Process(), list[tuple[int, float]]()

    def watch(progress: Progress) -> None:
        if not resident or progress.done >= resident[-1][0] + n // 10:
            resident.append((progress.done, process.memory_info().rss / 2**20))

    executor = SleepingExecutor(arguments.workers, arguments.seconds, shape)
    started, cpu_started = time.monotonic(), time.process_time()
    Driver(store, pass_id, executor, watch).execute(chunks, Progress(n, 0, 0))
    wall = time.monotonic() - started
    ideal = n * arguments.seconds / arguments.workers
    with store.read() as connection:
        counts = connection.execute(text("SELECT count(*), count(DISTINCT example_id) FROM ledger")).one()
        rows = connection.execute(text("SELECT count(*) FROM head_scores_stored")).scalar_one()
    return {
        "wall_seconds": wall,
        "ideal_seconds": ideal,
        "cpu_seconds": time.process_time() - cpu_started,
        "efficiency": ideal / wall,
        "examples_per_second": n / wall,
        "resident_mib": resident,
        "ledger_exact": tuple(counts) == (n, n) and rows == n * shape.layers * shape.heads,
    }


def commit(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    shape, n = Shape(arguments.layers, arguments.heads), arguments.commits * CHUNK
    store = Store(folder / "commits.duckdb", create=True)
    pass_id = new_pass(store, n, shape)
    seconds, cpu_seconds, rows = 0.0, 0.0, 0
    for start in range(0, n, CHUNK):
        ids = np.arange(start, start + CHUNK)
        tables = facts(ids, shape)
        rows += sum(table.num_rows for table in tables.values())
        chunk = ChunkFacts(
            pass_id=pass_id, example_ids=ids.tolist(), tables=tables, chunk="", worker="", seconds=0.0
        )
        started, cpu_started = time.perf_counter(), time.process_time()
        commit_chunk(store, chunk)
        seconds += time.perf_counter() - started
        cpu_seconds += time.process_time() - cpu_started
    store.checkpoint()
    return {
        "seconds_per_chunk": seconds / arguments.commits,
        "cpu_seconds_per_chunk": cpu_seconds / arguments.commits,
        "examples_per_second": n / seconds,
        "rows_per_example": rows / n,
        "rows_per_second": rows / seconds,
        "bytes_per_example": store.path.stat().st_size / n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a worker's time for an example")
    parser.add_argument("--commits", type=int, default=0, help="time this many commits instead")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        measured = (commit if arguments.commits else simulate)(arguments, Path(folder))
    settings = vars(arguments)
    facts_of_run = {"cpus": os.cpu_count(), "load_before": load, "date": datetime.now(UTC).date().isoformat()}
    document = {"settings": settings, "measured": measured, **facts_of_run}
    kind = f"commits-{arguments.layers}x{arguments.heads}" if arguments.commits else "driver-scale"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{kind}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
