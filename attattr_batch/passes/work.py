"""Protocols that every kind of pass fulfils for the runtime.

This module must not import torch: an executor's process has to start within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import pyarrow as pa

from attattr_batch.data.records import Chunk

Rows = Mapping[str, pa.Table]
"""The rows of a chunk, by table name."""

RowsLater = Callable[[], Rows]
"""Makes the rows of a chunk without the device, while the next chunk may be computed."""


class Worker(Protocol):
    """Computes chunks with a model already loaded."""

    def compute(self, chunk: Chunk) -> Rows | RowsLater:
        """Returns the chunk's rows, or what makes them; called for one chunk at a time."""


class Work(Protocol):
    """All that a worker needs to start; small and picklable, because it is sent to the worker."""

    def start(self) -> Worker:
        """Loads what the worker needs; called once in the worker's process.

        Raises:
            UserError: no worker of this pass can start, for example because the model is wrong or is not
                the one that was planned.
        """

    def is_here(self) -> bool:
        """Whether this machine has exactly the files that the work needs."""
        return True

    def files(self) -> Sequence[Path]:
        """The files on the driver's machine, to be sent to a machine that lacks them."""
        return ()

    def moved(self, folder: Path) -> Self:
        """The same work with the files elsewhere."""
        return self
