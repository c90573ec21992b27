"""Timing several ways of doing the same, round by round, beside the machine's matrix-product rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from arithmetic import DTYPES, Shape, matrix_rate


@dataclass(frozen=True)
class Way:
    """Something to time: how many rows a call attributes, and the call, which is given the round's number."""

    rows: int
    call: Callable[[int], Any]


@dataclass(frozen=True)
class Timings:
    """CPU seconds a row by way, and operations a CPU second by dtype, one value a round."""

    seconds: dict[str, list[float]]
    rates: dict[str, list[float]]

    def seconds_a_row(self, name: str) -> float:
        """Median over rounds."""
        return median(self.seconds[name])

    def spread(self, name: str) -> str:
        """CPU seconds a row as `median (smallest to largest)` over rounds."""
        seconds = self.seconds[name]
        return f"{median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"

    def ratio(self, slow: str, fast: str) -> str:
        """How many times as long `slow` takes, within a round: `median (smallest to largest)`."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        ratios = [one / other for one, other in pairs]
        return f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"

    def share(self, name: str, dtype: str, operations: float) -> float:
        """Operations needed a row, over time, over the rate; median over rounds."""
        pairs = zip(self.seconds[name], self.rates[dtype], strict=True)
        return median(operations / seconds / rate for seconds, rate in pairs)

    def rates_shown(self) -> str:
        """The matrix-product rates in words."""
        shown = ", ".join(f"{median(rates) / 1e9:.0f} {dtype}" for dtype, rates in self.rates.items())
        return f"Matrix products, GFLOP/s: {shown}."


def time_rounds(ways: Mapping[str, Way], shape: Shape, rounds: int, rate_s: float = 0.5) -> Timings:
    """Times every way once a round, and the encoder's widest matrix product before and after, `rate_s` each.

    In processor time of one thread, which other programs on the machine change little.
    """
    timings = Timings({name: [] for name in ways}, {dtype: [] for dtype in DTYPES})
    for number in range(rounds):
        before = {name: matrix_rate(shape, dtype, seconds=rate_s) for name, dtype in DTYPES.items()}
        for name, way in ways.items():
            started = time.process_time()
            way.call(number)
            timings.seconds[name].append((time.process_time() - started) / way.rows)
        for name, dtype in DTYPES.items():
            timings.rates[name].append(max(before[name], matrix_rate(shape, dtype, seconds=rate_s)))
    return timings
