"""What every kind of pass gives to the runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.engine.families import Encoder, encoder_for
from attattr_batch.engine.models import ModelSource, choose_device, load_model
from attattr_batch.records import Chunk, EncodedExample


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


@runtime_checkable
class Portable(Protocol):
    """Work that needs the files of a folder, which can be sent to a machine that lacks them."""

    def is_here(self) -> bool:
        """Whether this machine has the very files."""

    def files(self) -> Sequence[Path]:
        """The files, on the driver's machine."""

    def moved(self, folder: Path) -> Self:
        """The same work with the files elsewhere."""


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
            UserError: the model cannot be loaded, or its family is not supported.
        """
        return self.worker(self.load())

    def load(self) -> Encoder:
        """Loads the model; raises as `start` does."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return encoder_for(load_model(self.source.settled(), choose_device(self.device)))

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
        """Why an example cannot be computed, by example id; to be quarantined."""

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples."""

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Arithmetic of the chunks, about."""


class _OrderedWork(Protocol):
    @property
    def job(self) -> str: ...
    @property
    def outputs(self) -> tuple[int, ...]: ...


def answer_columns(work: _OrderedWork, examples: Sequence[EncodedExample], logits: Tensor) -> dict[str, Any]:
    """The columns that the answers of ordered passes share, from class scores [row, model output].

    Raises:
        FloatingPointError: the scores are not numbers.
    """
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("the model's answers are not numbers")
    probabilities = logits.float().softmax(-1)[:, list(work.outputs)].cpu().numpy()
    gold = np.array([-1 if example.gold is None else example.gold for example in examples])
    rows = np.arange(len(gold))
    return {
        "job": pa.repeat(work.job, len(gold)),
        "example_id": np.array([example.example_id for example in examples], np.uint32),
        "predicted": probabilities.argmax(1),
        "prob_gold": pa.array(probabilities[rows, np.maximum(gold, 0)], mask=gold < 0),
    }
