"""What the work of every kind of pass shares: a model that each worker loads once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import torch

from attattr_batch.data.records import Chunk
from attattr_batch.engine.devices import choose_device
from attattr_batch.engine.families import Encoder, encoder_for
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_model
from attattr_batch.errors import UserError
from attattr_batch.passes.work import Worker


@dataclass(frozen=True, kw_only=True)
class ModelWork(ABC):
    """Work that needs a model.

    Attributes:
        source: The model.
        device: `cpu` or `cuda`.
        threads: CPU threads of the worker; None leaves torch's choice.
        outputs: Model output index by dataset label id.
    """

    source: ModelSource
    device: str
    threads: int | None = None
    outputs: tuple[int, ...]

    def start(self) -> Worker:
        """Loads the model and makes the worker.

        Raises:
            UserError: the model cannot be loaded, is not the one that was planned, or its family is not
                supported.
        """
        return self.worker(self.load())

    def load(self) -> Encoder:
        """Loads the model; raises as `start` does."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        source = self.source.settled()
        model = load_model(source, choose_device(self.device))
        # Checked after loading, so that files changed before or during it are noticed.
        if not source.is_here():
            raise UserError(
                "the model's files have changed since the command began",
                got=source.folder,
                hint="give the same command again: other weights are another run",
            )
        return encoder_for(model)

    @abstractmethod
    def worker(self, encoder: Encoder) -> Worker:
        """The worker, once its model is loaded."""

    @abstractmethod
    def on_cpu(self, batch_tokens: int) -> Self:
        """The same work on a CPU, in batches of its own size."""

    def is_here(self) -> bool:
        """Whether this machine has the model, or can fetch it."""
        return self.source.is_here()

    def files(self) -> Sequence[Path]:
        """The model's files, where a worker cannot fetch them by itself."""
        return self.source.files()

    def moved(self, folder: Path) -> Self:
        """The same work with the model's files elsewhere."""
        return replace(self, source=replace(self.source, folder=folder))


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
        """Examples that cannot be computed, to be quarantined, and why, by example id."""

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples."""

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Estimated floating-point operations of the chunks."""
