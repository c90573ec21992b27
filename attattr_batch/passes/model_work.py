"""What every kind of pass shares: a plan of its chunks, and work for which each worker loads a model once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pyarrow as pa
import torch

from attattr_batch.data.records import Chunk, EncodedExample, make_chunks
from attattr_batch.engine.devices import choose_device
from attattr_batch.engine.families import Encoder, encoder_for
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_model
from attattr_batch.errors import UserError

CHUNK_EXAMPLES = 64
"""Examples in a chunk at most: what one transaction commits, and what one crash can cost."""


@dataclass(frozen=True, kw_only=True)
class ModelWork(ABC):
    """Work that needs a model.

    Attributes:
        source: The model.
        device: `cpu` or `cuda`.
        threads: CPU threads of the worker; None leaves torch's choice.
        outputs: Model output index by dataset label id.
        batch_tokens: Tokens computed at once; bounds memory, changes no result beyond rounding.
    """

    source: ModelSource
    device: str
    threads: int | None = None
    outputs: tuple[int, ...]
    batch_tokens: int

    def start(self) -> ModelWorker:
        """Loads the model and makes the worker.

        Raises:
            UserError: the model cannot be loaded, is not the one that was planned, or its family is not
                supported.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        source = self.source.fetched()
        model = load_model(source, choose_device(self.device))
        # Checked after loading, so that files changed before or during it are noticed.
        if not source.is_here():
            raise UserError(
                "the model's files have changed since the command began",
                got=source.folder,
                hint="give the same command again: other weights are another run",
            )
        return ModelWorker(self, encoder_for(model))

    @abstractmethod
    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        """Computes a chunk with the model; returns its rows by table name."""

    def is_here(self) -> bool:
        """Whether this machine has the model, or can fetch it."""
        return self.source.is_here()

    def files(self) -> Sequence[Path]:
        """The model's files, where a worker cannot fetch them by itself."""
        return self.source.files()

    def moved(self, folder: Path) -> Self:
        """The same work with the model's files elsewhere."""
        return replace(self, source=replace(self.source, folder=folder))


@dataclass(frozen=True)
class ModelWorker:
    """Computes chunks with a model that is loaded.

    Attributes:
        work: What it does.
        encoder: The model.
    """

    work: ModelWork
    encoder: Encoder

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Returns the chunk's rows by table name."""
        return self.work.compute(self.encoder, chunk)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A pass, ready to be registered and computed.

    Attributes:
        work: What workers need.
        examples: The examples it is about, tokenised, in the order of the split.
        unfit: Examples that cannot be computed, to be quarantined, and why, by example id.
        hidden_size: Width of the model.
        chunk_tokens: Tokens of a chunk at most, padding included.
        flop_per_token: Roughly the floating-point operations for one token of an example.
    """

    work: ModelWork
    examples: Sequence[EncodedExample]
    unfit: Mapping[int, str] = field(default_factory=dict)
    hidden_size: int
    chunk_tokens: int
    flop_per_token: float

    @property
    def example_ids(self) -> list[int]:
        """The examples' ids, in the order of the split."""
        return [example.example_id for example in self.examples]

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Cuts the pending examples into chunks, like lengths together."""
        wanted = set(pending)
        examples = [example for example in self.examples if example.example_id in wanted]
        return make_chunks(examples, self.chunk_tokens, CHUNK_EXAMPLES)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Roughly the floating-point operations of the chunks."""
        return self.flop_per_token * sum(one.n_tokens for chunk in chunks for one in chunk.examples)
