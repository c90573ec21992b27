"""What every kind of pass shares: a plan of its chunks, and work for which each worker loads a model once."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch

from attattr_batch.data.records import Chunk, EncodedExample, make_chunks
from attattr_batch.engine.devices import check_dtype, choose_device, gpu_bytes, gpu_chunk_tokens
from attattr_batch.engine.families import Encoder, encoder_for
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_model
from attattr_batch.errors import UserError
from attattr_batch.passes.work import Rows, RowsLater
from attattr_batch.spec import MachineSettings

log = logging.getLogger(__name__)

CHUNK_EXAMPLES = 64
"""Examples in a chunk at most: what one transaction commits, and what one crash can cost."""

GPU_CHUNK_EXAMPLES = 1024
"""The same where only GPUs compute. There the tokens decide; this bounds the transaction of short texts."""


def chunk_limits(work: ModelWork, machine: MachineSettings, width: int, n_layers: int) -> tuple[int, int]:
    """Tokens (padding included) and examples of a chunk at most.

    A GPU needs many tokens to be busy. Where a pool without GPUs shares the queue, a chunk has no more
    examples than elsewhere, because a worker of it takes many times as long.
    """
    if work.device == "cpu":
        return work.batch_tokens, CHUNK_EXAMPLES
    pools = machine.workers if isinstance(machine.workers, list) else []
    examples = GPU_CHUNK_EXAMPLES if all(pool.gpus for pool in pools) else CHUNK_EXAMPLES
    return min(work.batch_tokens, gpu_chunk_tokens(width, n_layers)), examples


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

    @property
    def dtype(self) -> str:
        """Arithmetic that the device must be able to do."""
        return "float32"

    def start(self) -> ModelWorker:
        """Loads the model and makes the worker.

        Raises:
            UserError: the model cannot be loaded, is not the one that was planned, or its family is not
                supported; or this machine lacks the device, or it cannot do the arithmetic.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = choose_device(self.device)
        check_dtype(self.dtype, device.type)
        source = self.source.fetched()
        model = load_model(source, device)
        # Checked after loading, so that files changed before or during it are noticed.
        if not source.is_here():
            raise UserError(
                "the model's files have changed since the command began",
                got=source.folder,
                hint="give the same command again: other weights are another run",
            )
        return ModelWorker(self, encoder_for(model))

    @abstractmethod
    def compute(self, encoder: Encoder, chunk: Chunk) -> Rows | RowsLater:
        """Computes a chunk with the model.

        Returns:
            Its rows by table name; or a function that makes them without the device, of copies on the host,
            while the next chunk is computed.
        """

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
        fitting: Tokens of an example that were found to fit on the GPU, where a longer one did not.
    """

    work: ModelWork
    encoder: Encoder
    fitting: list[int] = field(default_factory=list, compare=False)

    def compute(self, chunk: Chunk) -> Rows | RowsLater:
        """What `ModelWork.compute` returns for the chunk.

        Raises:
            torch.OutOfMemoryError: the GPU is too small; says for what, where the chunk is one example.
        """
        try:
            return self.work.compute(self.encoder, chunk)
        except torch.OutOfMemoryError as error:
            if len(chunk.examples) > 1:
                raise  # its halves may fit
            message = str(error).partition("\n")[0]
        # Not in the clause above: until it ends, the error keeps what the computation had in memory.
        raise torch.OutOfMemoryError(self._too_small(chunk.examples[0], message))

    def _too_small(self, example: EncodedExample, message: str) -> str:
        """Says what a GPU that is too small for one example alone can do."""
        fits, tokens = self._length_that_fits(example), max(128, example.n_tokens)
        ways = ["a run with " + (f"`--max-length {fits}`, which fits" if fits else "`--device cpu`")]
        if tokens < self.work.batch_tokens:
            ways.append(f"`--retry-errors --batch-tokens {tokens}` (now {self.work.batch_tokens})")
        return (
            f"the GPU, with {gpu_bytes() / 2**30:.1f} GiB, is too small for an example of {example.n_tokens}"
            f" tokens; next: {', or '.join(ways)}. {message}"
        )

    def _length_that_fits(self, example: EncodedExample) -> int | None:
        """The longest of seven eighths of the example, six, ..., one, that can be computed; found once."""
        if known := [length for length in self.fitting if length < example.n_tokens]:
            return known[0]
        for eighths in range(7, 0, -1):
            length = max(4, example.n_tokens * eighths // 8)
            part = replace(
                example,
                input_ids=example.input_ids[:length],
                token_type_ids=example.token_type_ids and example.token_type_ids[:length],
                segments=example.segments[:length],
            )
            try:
                self.work.compute(self.encoder, Chunk((part,)))
            except Exception as error:  # of any kind: only a trial
                log.debug("%d tokens do not fit either: %s", length, error)
                continue
            self.fitting.append(length)
            return length
        return None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A pass, ready to be registered and computed.

    Attributes:
        work: What workers need.
        examples: The examples it is about, tokenised, in the order of the split.
        unfit: Examples that cannot be computed, to be quarantined, and why, by example id.
        hidden_size: Width of the model.
        chunk_tokens: Tokens of a chunk at most, padding included.
        chunk_examples: Examples of a chunk at most.
        flop_per_token: Roughly the floating-point operations for one token of an example.
    """

    work: ModelWork
    examples: Sequence[EncodedExample]
    unfit: Mapping[int, str] = field(default_factory=dict)
    hidden_size: int
    chunk_tokens: int
    chunk_examples: int = CHUNK_EXAMPLES
    flop_per_token: float

    @property
    def example_ids(self) -> list[int]:
        """The examples' ids, in the order of the split."""
        return [example.example_id for example in self.examples]

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Cuts the pending examples into chunks, like lengths together."""
        wanted = set(pending)
        examples = [example for example in self.examples if example.example_id in wanted]
        return make_chunks(examples, self.chunk_tokens, self.chunk_examples)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Roughly the floating-point operations of the chunks."""
        return self.flop_per_token * sum(one.n_tokens for chunk in chunks for one in chunk.examples)
