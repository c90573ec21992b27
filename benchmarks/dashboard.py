"""Times every page of the dashboard in Chromium, on a store of many runs.

    python benchmarks/dashboard.py --runs 2     # 2.8 million head_scores rows
    python benchmarks/dashboard.py              # 71 runs of MNLI's dev set, 100 million; 6 GB of disk

Facts are made up, of BERT-base's shape, and go in through the path that runs use; edges are stored for the
first run alone. What jobs would leave in the store is made up too, in their tables' form: they need a model.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from document import ROOT, add_out, out_folder, provenance, save, table
from job_tables import JOB_TABLES
from made_up import N_TOKENS, VOCABULARY, Facts
from store import MNLI, fill

from attattr_batch.store.database.connection import Store

# The tests drive the same browser.
sys.path.insert(0, str(ROOT / "tests"))
from helpers.opened import Browser, browser, chromium, dashboard

PAGES = ("Overview", "Heads", "Universality", "Pruning", "Examples", "Triggers", "Compare", "SQL")
CHUNK = 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=71, help="runs in the store")
    parser.add_argument("--examples", type=int, default=MNLI, help="examples of each run")
    parser.add_argument("--repeats", type=int, default=3, help="times that every page is opened")
    parser.add_argument("--page", action="append", choices=PAGES, help="only this page; repeatable")
    parser.add_argument("--folder", type=Path, help="where the store is made, and left")
    add_out(parser)
    options = parser.parse_args()
    where = provenance()
    with tempfile.TemporaryDirectory() as scratch:
        store = Store((options.folder or Path(scratch)) / "dashboard.duckdb", create=True)
        if not store.path.exists():
            make(store, options.runs, options.examples)
        with store.read() as connection:
            (runs,), (heads,) = (
                connection.exec_driver_sql(f"SELECT count(*) FROM {name}").one()
                for name in ("runs", "head_scores_dedup")
            )
        rows = time_pages(store, options.page or PAGES, options.repeats)
    command = f"python benchmarks/dashboard.py --runs {options.runs} --examples {options.examples}"
    note = (
        f"{runs} runs, {heads / 1e6:.1f} million rows of head_scores. Seconds from the click on the menu"
        f" until the page is drawn, median of {options.repeats}: anew, as after a change of the store, and"
        " again."
    )
    columns = ("page", "every run, anew", "again", "one run, anew", "again")
    result = {"title": "The dashboard", "command": command, **where}
    save(out_folder(options.out), "dashboard", {**result, "tables": [table("Pages", columns, rows, note)]})


def make(store: Store, n_runs: int, n_examples: int) -> None:
    """Fills the store; edges and tokens of the first run alone, for the page of examples."""
    for run in range(n_runs):
        fill(store, Facts(edges=run == 0), n_examples, CHUNK, f"run-{run}")
    with store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tokens SELECT 1, example, place, (example * 31 + place * 7919) % ?, 0, place"
            " FROM range(?) AS examples(example), range(?) AS places(place)",
            (VOCABULARY, n_examples, N_TOKENS),
        )
        connection.exec_driver_sql(
            "INSERT INTO vocabulary SELECT 'made up', id, 'w' || id FROM range(?) AS ids(id)", (VOCABULARY,)
        )
        # Of random numbers no tree can be certain.
        connection.exec_driver_sql("UPDATE layer_scores_dedup SET edge_floor = 0 WHERE run_id = 1")
        for name, query in JOB_TABLES.items():
            connection.exec_driver_sql(f"CREATE TABLE {name} AS {query}")
    store.checkpoint()


def time_pages(store: Store, pages: Sequence[str], repeats: int) -> list[list[str]]:
    """Seconds to open each of the pages: for every run and for one, asked anew and asked again."""
    with dashboard(store.path) as address, chromium() as launched:
        seconds: dict[str, list[float]] = {page: [] for page in pages}
        for filters in ("", "?runs=run-0"):
            with browser(launched, address) as opened:
                opened.open(f"sql{filters}")
                for page, found in measured(opened, store.path, pages, repeats):
                    seconds[page] += found
    return [[page, *(f"{value:.2f}" for value in values)] for page, values in seconds.items()]


def measured(
    opened: Browser, path: Path, pages: Sequence[str], repeats: int
) -> Iterator[tuple[str, list[float]]]:
    """For each of the pages the medians of opening it anew and again."""
    for page in pages:
        found: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(repeats):
            for anew in (True, False):
                opened.follow("SQL" if page != "SQL" else "Overview")
                if anew:
                    os.utime(path)  # the dashboard keeps answers until the file changes
                started = time.perf_counter()
                opened.follow(page)
                drawn(opened)
                found[anew].append(time.perf_counter() - started)
        yield page, [median(found[True]), median(found[False])]


def drawn(opened: Browser) -> None:
    """Waits until every chart of the page is drawn."""
    opened.page.wait_for_function(
        "() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]"
        ".every(chart => chart.querySelector('canvas, svg.marks'))"
    )


if __name__ == "__main__":
    main()
