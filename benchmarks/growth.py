"""How time and memory of attribution grow: with nodes, length, layers, rows at once."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from arithmetic import Shape
from document import table
from ours import attribute, attribute_for_the_store, timed
from timing import time_rounds
from workloads import SHAPES, random_workload

from attattr_batch.spec import MethodSettings

_SIX = SHAPES["six layers, 384"]
_TINY = Shape(2, 32, 64)
_MIB = 1024  # ru_maxrss is in KiB


Case = tuple[str, Shape, int, int, int]
"""What grows, shape, length, rows, nodes."""


def _cases(
    shape: Shape, tokens: int, lengths: tuple[int, ...], layers: tuple[int, ...], rows: tuple[int, ...]
) -> list[Case]:
    usual = min(32, tokens)
    cases = [(f"nodes {nodes}", shape, usual, tokens // usual, nodes) for nodes in (3, 5, 9, 17)]
    cases += [(f"length {length}", shape, length, tokens // length, 5) for length in lengths]
    cases += [
        (f"layers {depth}", Shape(depth, shape.width, shape.inner), usual, tokens // usual, 5)
        for depth in layers
    ]
    return cases + [(f"rows {count}", shape, usual, count, 5) for count in rows]


def growth_of_time(rate_s: float, *, smoke: bool) -> dict[str, Any]:
    """Time a row against nodes, length, layers and rows at once, on random weights."""
    if smoke:
        cases = _cases(_TINY, 16, lengths=(8,), layers=(2,), rows=(1,))
    else:
        lengths = (16, 32, 64, 128, 256, 512)
        cases = _cases(_SIX, 1024, lengths=lengths, layers=(3, 6, 12), rows=(1, 4, 16, 32))
    rows = []
    for name, shape, length, n_rows, nodes in cases:
        work = random_workload(name, shape, length, n_rows)
        method = MethodSettings(quadrature="gauss-legendre", nodes=nodes)
        found = attribute(work, method)
        timings = time_rounds({name: timed(work, method)}, shape, 1, rate_s)
        milliseconds = 1e3 * timings.seconds_a_row(name)
        share = timings.share(name, "float32", found.operations)
        rows.append([name, n_rows, length, f"{milliseconds:.1f}", f"{share:.0%}"])
    return table(
        "Growth",
        ("what grows", "rows", "tokens a row", "CPU ms a row", "share of the matrix rate"),
        rows,
        f"Random weights, {cases[0][1].layers} layers of width {cases[0][1].width}, gauss-legendre 5 and as"
        " many rows as make one pass, unless the first column says otherwise; float32.",
    )


def memory(*, smoke: bool) -> dict[str, Any]:
    """Peak memory of processes that attribute one chunk each."""
    shapes = [("six layers, 384", 128), ("BERT-base", 128), ("BERT-base", 512)]
    if smoke:
        shapes = [("smoke", 16)]
    rows = []
    for name, length in shapes:
        command = [sys.executable, str(Path(__file__).resolve()), name, str(length)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append([name, length, *output.split()])
    return table(
        "Memory",
        ("shape", "tokens a row", "rows at once", "MiB before the work", "peak MiB"),
        rows,
        "Peak resident memory of a process that attributes one chunk of the default size at the default"
        " tolerance, with all rows for the store; `before` is Python, libraries and weights.",
    )


def _measure_memory(name: str, length: int) -> None:
    """Prints the rows of a chunk, and resident memory before and at its peak, in MiB."""
    shape = SHAPES.get(name, _TINY)
    probe = random_workload(name, shape, length, 1)
    n_rows = min(64, max(1, probe.batch_tokens // length))
    work = random_workload(name, shape, length, n_rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB
    attribute_for_the_store(work)
    print(n_rows, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB)


if __name__ == "__main__":
    _measure_memory(sys.argv[1], int(sys.argv[2]))
