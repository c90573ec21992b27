"""Work whose chunks wait for what happens elsewhere: no test of a cluster depends on how fast it is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa

from attattr_batch.data.records import Chunk
from attattr_batch.engine.families import Encoder
from attattr_batch.passes import Work
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.passes.work import RowsLater
from helpers.toy_work import ToyWork

PATIENCE_S = 120.0
_BEGUN: list[Encoder] = []


def wait_for(path: Path) -> None:
    """Waits until there is such a file; raises after two minutes."""
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"no {path.name}")
        time.sleep(0.05)


@dataclass(frozen=True, kw_only=True)
class GatedWork(AttributeWork):
    """Attribution of which every worker does one chunk at once, and the others when the gate is open.

    Attributes:
        gate: A file that opens it.
    """

    gate: Path

    @classmethod
    def of(cls, work: AttributeWork, gate: Path) -> GatedWork:
        """The same work with a gate: the rows are its own."""
        return cls(**{one.name: getattr(work, one.name) for one in fields(work)}, gate=gate)

    def compute(self, encoder: Encoder, chunk: Chunk) -> RowsLater:
        if encoder in _BEGUN:
            wait_for(self.gate)
        _BEGUN.append(encoder)
        return super().compute(encoder, chunk)


@dataclass(frozen=True)
class TogetherWork(Work):
    """Toy work that goes on only when some workers are at it; its first example does not wait.

    Attributes:
        folder: Where each says that it is.
        workers: How many.
    """

    folder: Path
    workers: int

    def start(self) -> TogetherWork:
        return self

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        if chunk.example_ids[0] > 0:
            (self.folder / str(os.getpid())).touch()
            if len(list(self.folder.iterdir())) >= self.workers:
                (self.folder / "all").touch()
            wait_for(self.folder / "all")
        return ToyWork().compute(chunk)
