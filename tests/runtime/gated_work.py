"""Attribution whose chunks take seconds and no processor: the rows are those of the work it stands for."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import pyarrow as pa

from attattr_batch.engine.families import Encoder
from attattr_batch.passes.attribute import AttributeWork, AttributeWorker
from attattr_batch.records import Chunk


@dataclass(frozen=True, kw_only=True)
class SlowWork(AttributeWork):
    """Sleeps before every chunk.

    Attributes:
        seconds: How long.
    """

    seconds: float

    @classmethod
    def of(cls, work: AttributeWork, seconds: float) -> SlowWork:
        """The same work, slower."""
        return cls(**{one.name: getattr(work, one.name) for one in fields(work)}, seconds=seconds)

    def worker(self, encoder: Encoder) -> SlowWorker:
        return SlowWorker(self, encoder, self.seconds)


class SlowWorker(AttributeWorker):
    """Sleeps, then attributes."""

    def __init__(self, work: AttributeWork, encoder: Encoder, seconds: float):
        super().__init__(work, encoder)
        self._seconds = seconds

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        time.sleep(self._seconds)
        return super().compute(chunk)
