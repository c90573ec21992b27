"""Times attribution: the released procedure, Captum and this engine, on the same rows in one run.

    python benchmarks/engine.py                            # bundled models and random shapes
    ATTATTR_REAL_DATA=DIR python benchmarks/engine.py      # real checkpoints and random shapes
    python benchmarks/engine.py --smoke --out FOLDER       # a few rows, to see that it works

Each round runs every implementation once. Ratios are taken within a round, in processor time of one thread;
their median and their spread over the rounds are shown. The compared implementations are too slow for all
rows in each round, so each round gives them a few whose lengths are spread as those of all rows are, and
other ones than the round before. Everything timed for a ratio computes the attribution matrices alone,
without statistics for the store.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from arithmetic import DTYPES
from baselines import captum, released
from document import add_out, out_folder, provenance, save, table
from growth import growth_of_time, memory
from ours import Attributed, attribute, attribute_for_the_store, timed
from timing import Timings, Way, time_rounds
from workloads import SHAPES, Workload, random_workload, task_workload

from attattr_batch.data.records import EncodedExample
from attattr_batch.spec import MethodSettings, make_settings

PARTS = ("sst2", "mnli", "rte", "shapes", "growth", "memory")
LEFT_RIEMANN = MethodSettings(quadrature="left-riemann", nodes=20)
LOOSE = 0.1
"""Tolerance at which the adaptive integral is about as accurate as left Riemann 20, and never worse."""
CANDIDATES = tuple(("gauss-legendre", nodes) for nodes in (2, 3, 4, 5, 6, 8, 12, 16, 32))
"""Fixed rules, cheapest first."""

COMPARED = ("released", "Captum, 20 nodes", "Captum, 50 nodes")
TASK_COLUMNS = (
    "implementation",
    "tokens a row, mean",
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
    """How much is measured.

    Attributes:
        chunks: Chunks of a task.
        rows: Rows of each chunk, by task; a run hands out 64, so batches are a little smaller here.
        rounds: Rounds of a task.
        rate_s: Seconds in which the matrix-product rate is taken.
        shape_rounds: Rounds of the random shapes.
        shapes: Name, tokens a row, rows.
    """

    chunks: int = 2
    rows: Mapping[str, int] = field(default_factory=lambda: {"sst2": 32, "mnli": 16, "rte": 6})
    rounds: int = 7
    rate_s: float = 0.3
    shape_rounds: int = 3
    shapes: tuple[tuple[str, int, int], ...] = (("BERT-base", 128, 4), ("BERT-large", 64, 1))


SMOKE = Size(chunks=1, rows=dict.fromkeys(("sst2", "mnli", "rte"), 2), rounds=1, rate_s=0.05, shapes=())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few rows, one round")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument("--rows", type=int, help="rows of each of a task's two chunks, or of a shape")
    parser.add_argument("--rounds", type=int, help="rounds (default: 7 for a task, 3 for a shape)")
    add_out(parser)
    options = parser.parse_args()
    size, flags = SMOKE if options.smoke else Size(), " --smoke" if options.smoke else ""
    if options.rows:
        shapes = tuple((name, length, options.rows) for name, length, _ in size.shapes)
        rows = dict.fromkeys(size.rows, options.rows)
        size, flags = replace(size, rows=rows, shapes=shapes), f"{flags} --rows {options.rows}"
    if options.rounds:
        size = replace(size, rounds=options.rounds, shape_rounds=options.rounds)
        flags = f"{flags} --rounds {options.rounds}"
    for part in options.part or PARTS:
        where = provenance()
        real = "ATTATTR_REAL_DATA=DIR " if "ATTATTR_REAL_DATA" in os.environ else ""
        command = f"{real}python benchmarks/engine.py --part {part}{flags}"
        tables = measure(part, size, smoke=options.smoke)
        result = {"title": f"The engine: {part}", "command": command, **where, "tables": tables}
        save(out_folder(options.out, smoke=options.smoke), f"engine-{part}", result)


def measure(part: str, size: Size, *, smoke: bool) -> list[dict[str, Any]]:
    """The tables of one part."""
    if part == "shapes":
        return [shape_table(name, length, rows, size.shape_rounds) for name, length, rows in size.shapes]
    if part == "growth":
        return [growth_of_time(size.rate_s, smoke=smoke)]
    if part == "memory":
        return [memory(smoke=smoke)]
    return [task_table(part, size)]


def task_table(task: str, size: Size) -> dict[str, Any]:
    """All implementations on one task."""
    work = task_workload(task, size.chunks, size.rows[task])
    bound, default = attribute(work, LEFT_RIEMANN), MethodSettings()
    slow = [rows_of_round(work.rows, number, size.rounds) for number in range(size.rounds)]
    found = {"released": bound}
    ways = {
        name: Way(2, partial(one_by_one, way, work, slow, steps))
        for name, way, steps in (
            ("released", released, ()),
            ("Captum, 20 nodes", captum, (20,)),
            ("Captum, 50 nodes", captum, (50,)),
        )
    }
    rule = cheapest_rule(work, bound)
    mine = {
        f"ours, {rule.quadrature} {rule.nodes}, float32": rule,
        f"ours, tolerance {LOOSE:g}, float32": MethodSettings(tolerance=LOOSE),
        f"ours, tolerance {LOOSE:g}, bfloat16": MethodSettings(tolerance=LOOSE, dtype="bfloat16"),
        f"ours, tolerance {default.tolerance:g}, float32": default,
    }
    for name, method in mine.items():
        found[name] = attribute(work, method)
        ways[name] = timed(work, method)
    whole = f"ours, tolerance {default.tolerance:g}, float32, with all rows for the store"
    ways[whole] = Way(len(work.rows), lambda _: attribute_for_the_store(work))
    timings = time_rounds(ways, work.shape, size.rounds, size.rate_s)
    rows = {name: [row for few in slow for row in few] if name in COMPARED else work.rows for name in ways}
    shown = [_task_row(name, timings, found.get(name), mean_length(rows[name])) for name in ways]
    lengths = [row.n_tokens for row in work.rows]
    return table(
        work.name,
        TASK_COLUMNS,
        shown,
        f"{len(work.rows)} rows of {min(lengths)} to {max(lengths)} tokens in {size.chunks} chunks; of the"
        f" compared implementations two of them a round, in {size.rounds} rounds. `released` pads to 128"
        " tokens. Shown are medians over the rounds (smallest to largest). The fixed rule is the"
        " cheapest whose mean and largest completeness error are those of left Riemann 20 (`released`) at"
        " most. The last row computes what the compared implementations do not, so it has no ratios."
        f" {timings.rates_shown()}",
    )


def rows_of_round(rows: Sequence[EncodedExample], number: int, rounds: int) -> list[EncodedExample]:
    """Two rows for a round: one as many places from the shortest as the other is from the longest.

    So the mean length of each round is about that of all rows, and the rounds together cover all lengths.
    """
    ordered = sorted(rows, key=lambda row: row.n_tokens)
    place = (2 * number + 1) * len(ordered) // (4 * rounds)
    return [ordered[place], ordered[-1 - place]]


def mean_length(rows: Sequence[EncodedExample]) -> float:
    """Tokens a row, on average."""
    return float(np.mean([row.n_tokens for row in rows]))


def one_by_one(
    way: Callable[..., Any],
    work: Workload,
    rows: list[list[EncodedExample]],
    steps: tuple[int, ...],
    number: int,
) -> None:
    """Attributes the rows of a round one by one, as the compared implementations do."""
    for row in rows[number]:
        segments = list(row.token_type_ids or [0] * row.n_tokens)
        way(work.model, list(row.input_ids), segments, work.label(row), *steps)


def cheapest_rule(work: Workload, bound: Attributed) -> MethodSettings:
    """The first candidate whose completeness errors, mean and largest, are at most those of `bound`."""
    for quadrature, nodes in CANDIDATES:
        method = make_settings(MethodSettings, {"quadrature": quadrature, "nodes": nodes})
        attributed = attribute(work, method)
        if attributed.mean_error <= bound.mean_error and attributed.largest_error <= bound.largest_error:
            return method
    raise SystemExit("No fixed rule is as exact as left Riemann with 20 steps; got none of CANDIDATES.")


def shape_table(name: str, length: int, n_rows: int, rounds: int) -> dict[str, Any]:
    """An encoder with random weights: how much of the machine's matrix-product rate is used."""
    work = random_workload(name, SHAPES[name], length, n_rows)
    rule = {"quadrature": "gauss-legendre", "nodes": 3}
    methods = {dtype: make_settings(MethodSettings, {**rule, "dtype": dtype}) for dtype in DTYPES}
    found = attribute(work, methods["float32"])
    ways: dict[str, Way] = {dtype: timed(work, method) for dtype, method in methods.items()}
    timings = time_rounds(ways, work.shape, rounds)
    return table(
        f"{name}, random weights, gauss-legendre 3",
        ("dtype", "CPU s a row", "GFLOP needed a row", "share of the matrix rate"),
        [
            [
                dtype,
                timings.spread(dtype),
                f"{found.operations / 1e9:.0f}",
                f"{timings.share(dtype, dtype, found.operations):.0%}",
            ]
            for dtype in DTYPES
        ],
        f"{n_rows} rows of {length} tokens. {timings.rates_shown()}",
    )


def _task_row(name: str, timings: Timings, attributed: Attributed | None, tokens: float) -> list[str]:
    row = [name, f"{tokens:.1f}", timings.spread(name)]
    if name.endswith("store"):
        return [*row, *[""] * (len(TASK_COLUMNS) - len(row))]
    row += [timings.ratio(base, name) for base in COMPARED]
    if attributed is None:
        return [*row, "", "", ""]
    row.append(f"{attributed.mean_error:.1e} / {attributed.largest_error:.1e}")
    if not name.startswith("ours"):
        return [*row, "", ""]
    share = timings.share(name, name.rsplit(", ", 1)[1], attributed.operations)
    return [*row, f"{attributed.operations / 1e9:.1f}", f"{share:.0%}"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
