"""What every kind of pass gives to the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa

from attattr_batch.records import Chunk


class Worker(Protocol):
    """Computes chunks, one at a time, with a model already loaded."""

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        """Returns the chunk's rows by table name."""


class Work(Protocol):
    """All that a worker needs to start, small enough to send to it (picklable)."""

    def start(self) -> Worker:
        """Loads what the worker needs; called once in the worker's process.

        Raises:
            UserError: no worker of this pass can ever start (a wrong model, say).
        """
