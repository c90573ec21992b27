"""Times attribution: the released procedure, Captum and this engine, on the same rows in one run.

    python benchmarks/engine.py                            # bundled models and random shapes
    ATTATTR_REAL_DATA=DIR python benchmarks/engine.py      # real checkpoints and random shapes
    python benchmarks/engine.py --smoke --out FOLDER       # a few rows, to see that it works

Each round runs every implementation once; ratios are taken within a round, in processor time of one thread,
and the median of the rounds is shown, so that they hold on a noisy machine. `released` costs the same for
every row (it pads to 128), so one row stands for all.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arithmetic import DTYPES, DType
from baselines import captum, released
from document import RESULTS, provenance, save, table
from growth import growth_of_time, memory
from ours import Attributed, attribute, attribute_for_the_store
from timing import Timings, Way, time_rounds
from workloads import SHAPES, Workload, random_workload, task_workload

from attattr_batch.engine.attribution import Method
from attattr_batch.records import EncodedExample

PARTS = ("sst2", "mnli", "rte", "shapes", "growth", "memory")
LEFT_RIEMANN = Method("left-riemann", 20)
LOOSE = 0.1
"""Tolerance at which the adaptive integral is about as accurate as left Riemann 20, and never worse."""
CANDIDATES = (
    ("gauss-lobatto", 3),
    ("gauss-legendre", 2),
    ("gauss-lobatto", 4),
    ("gauss-legendre", 3),
    ("gauss-lobatto", 5),
    ("gauss-legendre", 4),
    ("gauss-lobatto", 6),
    ("gauss-lobatto", 7),
    ("gauss-lobatto", 9),
    ("gauss-lobatto", 13),
    ("gauss-lobatto", 17),
    ("gauss-lobatto", 33),
)
"""Fixed rules, cheapest first."""

TASK_COLUMNS = (
    "implementation",
    "CPU s a row",
    "x released",
    "x Captum 20",
    "x Captum 50",
    "completeness error mean / largest",
    "GFLOP needed a row",
    "share of the matrix rate",
)


@dataclass(frozen=True)
class Size:
    """How much is measured: chunks of a task, rows of each, rounds, rows of the slow comparisons, seconds.

    The seconds are those of the matrix-product rate.
    """

    chunks: int = 2
    rows: int = 64  # as a run hands them out
    rounds: int = 2
    slow_rows: int = 1
    rate_s: float = 0.5
    shapes: tuple[tuple[str, int, int], ...] = (("BERT-base", 128, 4), ("BERT-large", 64, 1))


SMOKE = Size(chunks=1, rows=2, rounds=1, slow_rows=1, rate_s=0.05, shapes=())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few rows, one round")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument(
        "--rows", type=int, help="rows of each of a task's two chunks (a quarter for RTE), or of a shape"
    )
    parser.add_argument("--rounds", type=int, help="rounds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    size, flags = SMOKE if options.smoke else Size(), " --smoke" if options.smoke else ""
    if options.rows:
        shapes = tuple((name, length, options.rows) for name, length, _ in size.shapes)
        size, flags = replace(size, rows=options.rows, shapes=shapes), f"{flags} --rows {options.rows}"
    if options.rounds:
        size, flags = replace(size, rounds=options.rounds), f"{flags} --rounds {options.rounds}"
    for part in options.part or PARTS:
        where = provenance()
        real = "ATTATTR_REAL_DATA=DIR " if "ATTATTR_REAL_DATA" in os.environ else ""
        command = f"{real}python benchmarks/engine.py --part {part}{flags}"
        tables = measure(part, size, smoke=options.smoke)
        result = {"title": f"The engine: {part}", "command": command, **where, "tables": tables}
        save(options.out, f"engine-{part}", result)


def measure(part: str, size: Size, *, smoke: bool) -> list[dict[str, Any]]:
    """The tables of one part."""
    if part == "shapes":
        return [shape_table(name, length, rows, size.rounds) for name, length, rows in size.shapes]
    if part == "growth":
        return [growth_of_time(size.rate_s, smoke=smoke)]
    if part == "memory":
        return [memory(smoke=smoke)]
    return [task_table(part, size)]


def task_table(task: str, size: Size) -> dict[str, Any]:
    """All implementations on one task."""
    work = task_workload(task, size.chunks, size.rows // 4 if task == "rte" else size.rows)
    bound, slow = attribute(work, LEFT_RIEMANN), _spread(work.rows, size.slow_rows)
    found = {"released": bound}
    ways = {
        "released": Way(len(slow), partial(one_by_one, released, work, slow)),
        "Captum, 20 nodes": Way(len(slow), partial(one_by_one, captum, work, slow, 20)),
        "Captum, 50 nodes": Way(len(slow), partial(one_by_one, captum, work, slow, 50)),
    }
    default = work.method
    for dtype in DTYPES:
        method, attributed = cheapest_rule(work, bound, dtype)
        if method is not None:
            name = f"ours, {method.quadrature} {method.nodes}, {dtype}"
            found[name], ways[name] = attributed, Way(len(work.rows), partial(attribute, work, method))
        name, loose = f"ours, tolerance {LOOSE:g}, {dtype}", replace(default, tolerance=LOOSE, dtype=dtype)
        found[name] = attribute(work, loose)
        ways[name] = Way(len(work.rows), partial(attribute, work, loose))
    name = f"ours, tolerance {default.tolerance:g}, with all rows for the store, float32"
    found[name] = attribute(work, default)
    ways[name] = Way(len(work.rows), partial(attribute_for_the_store, work))
    timings = time_rounds(ways, work.shape, size.rounds, size.rate_s)
    lengths = [row.n_tokens for row in work.rows]
    return table(
        work.name,
        TASK_COLUMNS,
        [_task_row(name, timings, found.get(name)) for name in ways],
        f"{len(work.rows)} rows of {min(lengths)} to {max(lengths)} tokens, the slow ones on {len(slow)} of"
        " them. The fixed rules are the cheapest whose mean and largest completeness error are those of left"
        f" Riemann 20 (`released`) at most. {timings.rates_shown()}",
    )


def one_by_one(way: Callable[..., Any], work: Workload, rows: list[EncodedExample], *steps: int) -> None:
    """Attributes row by row, as the compared implementations do."""
    for row in rows:
        segments = list(row.token_type_ids or [0] * row.n_tokens)
        way(work.model, list(row.input_ids), segments, work.label(row), *steps)


def cheapest_rule(work: Workload, bound: Attributed, dtype: DType) -> tuple[Method | None, Attributed]:
    """The first candidate whose completeness errors, mean and largest, are at most those of `bound`.

    In bfloat16 there may be none: rounding alone can exceed them.
    """
    default = work.method
    for quadrature, nodes in CANDIDATES:
        method = Method(quadrature, nodes, dtype=dtype, batch_tokens=default.batch_tokens)
        attributed = attribute(work, method)
        if attributed.mean_error <= bound.mean_error and attributed.largest_error <= bound.largest_error:
            return method, attributed
    return None, bound


def shape_table(name: str, length: int, n_rows: int, rounds: int) -> dict[str, Any]:
    """An encoder with random weights: how much of the machine's matrix-product rate is used."""
    work = random_workload(name, SHAPES[name], length, n_rows)
    tokens = work.method.batch_tokens
    methods = {dtype: Method("gauss-lobatto", 4, dtype=dtype, batch_tokens=tokens) for dtype in DTYPES}
    found = attribute(work, methods["float32"])
    ways: dict[str, Way] = {
        dtype: Way(n_rows, partial(attribute, work, method)) for dtype, method in methods.items()
    }
    timings = time_rounds(ways, work.shape, rounds)
    return table(
        f"{name}, random weights, gauss-lobatto 4",
        ("dtype", "CPU s a row", "GFLOP needed a row", "share of the matrix rate"),
        [
            [
                dtype,
                f"{timings.seconds_a_row(dtype):.2f}",
                f"{found.operations / 1e9:.0f}",
                f"{timings.share(dtype, dtype, found.operations):.0%}",
            ]
            for dtype in DTYPES
        ],
        f"{n_rows} rows of {length} tokens. {timings.rates_shown()}",
    )


def _task_row(name: str, timings: Timings, attributed: Attributed | None) -> list[str]:
    mine = name.startswith("ours")
    row = [name, f"{timings.seconds_a_row(name):.3f}"]
    row += [
        f"{timings.ratio(base, name):.1f}" for base in ("released", "Captum, 20 nodes", "Captum, 50 nodes")
    ]
    if attributed is None:
        return [*row, "", "", ""]
    row.append(f"{attributed.mean_error:.1e} / {attributed.largest_error:.1e}")
    if not mine:
        return [*row, "", ""]
    share = timings.share(name, name.rsplit(", ", 1)[1], attributed.operations)
    return [*row, f"{attributed.operations / 1e9:.1f}", f"{share:.0%}"]


def _spread(rows: list[EncodedExample], count: int) -> list[EncodedExample]:
    """`count` rows, evenly spaced."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count + 2).astype(int)[1:-1]]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
