"""What every kind of pass gives to the runtime.

Only promises: no torch, so that an executor's process starts in a second, and loads what its work needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import pyarrow as pa

from attattr_batch.records import Chunk

if TYPE_CHECKING:
    from attattr_batch.passes.model_work import ModelWork


class Worker(Protocol):
    """Computes chunks, one at a time, with a model already loaded."""

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        """Returns the chunk's rows by table name."""


class Work(Protocol):
    """All that a worker needs to start, small enough to send to it (picklable)."""

    def start(self) -> Worker:
        """Loads what the worker needs; called once in the worker's process.

        Raises:
            UserError: no worker of this pass can ever start (a wrong model, say, or one that is not the
                model that was planned).
        """


@runtime_checkable
class Portable(Protocol):
    """Work that needs the files of a folder, which can be sent to a machine that lacks them."""

    def is_here(self) -> bool:
        """Whether this machine has the very files."""

    def files(self) -> Sequence[Path]:
        """The files, on the driver's machine."""

    def moved(self, folder: Path) -> Self:
        """The same work with the files elsewhere."""


class Plan(Protocol):
    """A pass, ready to be registered and executed."""

    @property
    def work(self) -> ModelWork:
        """What workers need."""

    @property
    def hidden_size(self) -> int:
        """Width of the model."""

    @property
    def example_ids(self) -> Sequence[int]:
        """The examples it is about, in the order of the split."""

    @property
    def unfit(self) -> Mapping[int, str]:
        """Why an example cannot be computed, by example id; to be quarantined."""

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples."""

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Arithmetic of the chunks, about."""
