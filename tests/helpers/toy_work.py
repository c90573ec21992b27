"""A pass that needs no model: made-up facts, and trouble on demand."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from helpers.fabricate import facts

FACTS = ("predictions", "target_scores_dedup", "layer_scores_dedup", "head_scores_dedup", "edges_dedup")
"""The tables that toy work fills."""


@dataclass(frozen=True)
class ToyWork(Work):
    """Facts of `fabricate`, with examples that make trouble.

    Attributes:
        raising: Examples whose chunk raises.
        deadly: Examples that end their process.
        hanging: Examples that are never done.
        greedy: Examples that want more memory than there is when they are with others in a chunk.
        invalid: Examples whose scores are NaN.
        start_error: Message of a user's mistake that no worker can start with.
        seconds: Time a chunk takes.
    """

    raising: frozenset[int] = frozenset()
    deadly: frozenset[int] = frozenset()
    hanging: frozenset[int] = frozenset()
    greedy: frozenset[int] = frozenset()
    invalid: frozenset[int] = frozenset()
    start_error: str | None = None
    seconds: float = 0.0
    seen: list[tuple[int, ...]] = field(default_factory=list, compare=False)

    def start(self) -> ToyWork:
        if self.start_error is not None:
            raise UserError(self.start_error)
        return self

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        self.seen.append(chunk.example_ids)
        time.sleep(self.seconds)
        ids = set(chunk.example_ids)
        if ids & self.deadly:
            os._exit(9)
        if ids & self.hanging:
            time.sleep(3600)
        if ids & self.greedy and len(ids) > 1:
            raise MemoryError("cannot allocate")
        if ids & self.raising:
            raise ArithmeticError(f"cannot compute {sorted(ids & self.raising)}")
        tables = facts(chunk.example_ids)
        if ids & self.invalid:
            tables["head_scores"] = _with_nan(tables["head_scores"], self.invalid)
        return tables


def _with_nan(rows: pa.Table, example_ids: frozenset[int]) -> pa.Table:
    values = [math.nan if row["example_id"] in example_ids else row["attr_max"] for row in rows.to_pylist()]
    return rows.set_column(rows.column_names.index("attr_max"), "attr_max", pa.array(values))


def chunks(n_examples: int, size: int) -> list[Chunk]:
    """Chunks of `size` consecutive examples."""
    examples = [
        EncodedExample(i, (1, 3, 7, 4, 2), None, (None,) * 5, i % 2, False) for i in range(n_examples)
    ]
    return [Chunk(tuple(examples[start : start + size])) for start in range(0, n_examples, size)]
