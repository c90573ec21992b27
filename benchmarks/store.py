"""Times the store: commits of chunks, bytes a row, and typical questions.

    python benchmarks/store.py              # 1.4 million head_scores rows: one model on MNLI's dev set
    python benchmarks/store.py --large      # 100 million as well; needs about 5 GB of disk and ten minutes

Facts are made up, of BERT-base's shape (144 heads), and go in through the path that runs use. Random values
do not compress, so bytes a row are an upper bound.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from document import add_out, out_folder, provenance, save, table
from made_up import Facts, chunk_facts, register

from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import commit_chunk
from attattr_batch.store.writing.passes import seal_pass

MNLI = 9_815
CHUNK = 64
REPEATS = 5

FILLING = (
    "examples a commit",
    "commits",
    "ms a commit, median",
    "95 %",
    "head_scores rows/s",
    "all rows/s",
    "checkpoint s",
    "MiB",
    "bytes a row",
)

QUESTIONS = {
    "importance of every head of a run": """
        SELECT layer, head, avg(attr_max) FROM head_scores
        WHERE run_id = 1 AND target = 'gold' GROUP BY ALL ORDER BY 3 DESC""",
    "correlation of head importance between all runs": """
        WITH mean AS (SELECT run_id, layer, head, avg(attr_max) AS a FROM head_scores
                      WHERE target = 'gold' GROUP BY ALL)
        SELECT x.run_id, y.run_id, corr(x.a, y.a) FROM mean x JOIN mean y USING (layer, head)
        WHERE x.run_id < y.run_id GROUP BY ALL""",
    "all heads of one example": """
        SELECT * FROM head_scores WHERE run_id = 1 AND example_id = 4711 AND target = 'gold'""",
    "rows with the largest completeness error": """
        SELECT example_id, layer, completeness_error FROM layer_scores
        WHERE run_id = 1 AND target = 'gold' ORDER BY abs(completeness_error) DESC LIMIT 20""",
    "ten strongest edges of one example": """
        SELECT layer, head, query_pos, key_pos, attr FROM edges
        WHERE run_id = 1 AND example_id = 4711 AND target = 'gold' ORDER BY attr DESC LIMIT 10""",
    "token pairs with the largest mean attribution": """
        SELECT query_token, key_token, count(*) AS support, avg(attr) AS mean FROM edges
        WHERE run_id = 1 AND target = 'gold' GROUP BY ALL HAVING support >= 20 ORDER BY mean DESC LIMIT 50""",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="100 million head_scores rows as well")
    parser.add_argument("--smoke", action="store_true", help="two commits, to see that it works")
    add_out(parser)
    options = parser.parse_args()
    where = provenance()
    examples = 2 * CHUNK if options.smoke else MNLI
    tables = measure(Facts(), n_runs=2, n_examples=examples // 2, chunk=CHUNK)
    if options.large:
        # Without edges, which would be another 800 million rows.
        tables += measure(Facts(edges=False), n_runs=71, n_examples=MNLI, chunk=1024)
    flags = "".join(f" --{flag}" for flag in ("large", "smoke") if getattr(options, flag))
    result = {"title": "The store", "command": f"python benchmarks/store.py{flags}", **where}
    save(
        out_folder(options.out, smoke=options.smoke),
        "store-large" if options.large else "store",
        {**result, "tables": tables},
    )


def measure(facts: Facts, n_runs: int, n_examples: int, chunk: int) -> list[dict[str, Any]]:
    """Fills a store and asks it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "bench.duckdb", create=True)
        latencies = [
            seconds
            for run in range(n_runs)
            for seconds in fill(store, facts, n_examples, chunk, f"run-{run}")
        ]
        started = time.perf_counter()
        store.checkpoint()
        checkpoint = time.perf_counter() - started
        heads = n_runs * n_examples * facts.n_layers * facts.n_heads
        total = stored_rows(store)
        size = os.path.getsize(store.path)
        asked = ask(store, edges=facts.edges)
    row = [
        chunk,
        len(latencies),
        f"{1e3 * median(latencies):.0f}",
        f"{1e3 * float(np.quantile(latencies, 0.95)):.0f}",
        f"{heads / sum(latencies):,.0f}",
        f"{total / sum(latencies):,.0f}",
        f"{checkpoint:.1f}",
        f"{size / 2**20:.0f}",
        f"{size / total:.1f}",
    ]
    note = f"{n_runs} runs of {n_examples} examples; {total / 1e6:.1f} million rows in all tables."
    return [table(f"Filling, {heads / 1e6:.1f} million head_scores rows", FILLING, [row], note), asked]


def fill(store: Store, facts: Facts, n_examples: int, chunk: int, name: str) -> list[float]:
    """Commits a run chunk by chunk; returns the seconds of each commit."""
    pass_id = register(store, facts, n_examples, name)
    seconds = []
    for start in range(0, n_examples, chunk):
        handed_in = chunk_facts(facts, np.arange(start, min(start + chunk, n_examples), dtype=np.int32))
        started = time.perf_counter()
        commit_chunk(store, pass_id, handed_in)
        seconds.append(time.perf_counter() - started)
    seal_pass(store, pass_id)
    return seconds


def stored_rows(store: Store) -> int:
    """Rows of all tables of facts."""
    names = ("predictions", "target_scores", "layer_scores_dedup", "head_scores_dedup")
    with store.read() as connection:
        counts = [
            connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in (*names, "edges_dedup", "layer_edges_dedup")
        ]
    return sum(map(int, counts))


def ask(store: Store, *, edges: bool) -> dict[str, Any]:
    """Times every question, opening the file included."""
    rows = []
    for name, sql in QUESTIONS.items():
        if "FROM edges" in sql and not edges:
            continue
        seconds, found = [], 0
        for _ in range(REPEATS):
            started = time.perf_counter()
            with store.read() as connection:
                found = len(connection.exec_driver_sql(sql).all())
            seconds.append(time.perf_counter() - started)
        rows.append([name, found, f"{1e3 * median(seconds):.0f}"])
    return table("Questions to it", ("question", "rows", "ms, median of 5, file opened anew"), rows)


if __name__ == "__main__":
    main()
