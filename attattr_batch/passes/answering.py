"""What passes that answer a job's request share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from torch import Tensor

from attattr_batch.data.records import EncodedExample
from attattr_batch.passes.model_work import ModelWork
from attattr_batch.passes.requests import Request


@dataclass(frozen=True, kw_only=True)
class AnswerWork(ModelWork):
    """Settings of a worker that answers a request.

    Attributes:
        job: Job that requests the answers.
        request: What is done to each example.
        batch_tokens: Tokens computed at once; bounds memory.
    """

    job: str
    request: Request[Any]
    batch_tokens: int

    def on_cpu(self, batch_tokens: int) -> Self:
        """The same work on a CPU, in batches of its own size."""
        return replace(self, device="cpu", batch_tokens=batch_tokens)

    def rows(self, examples: Sequence[EncodedExample], items: Sequence[int], logits: Tensor) -> pa.Table:
        """The answers as rows of their table.

        Args:
            examples: The example of each answer.
            items: The index of what was done to it, in the request.
            logits: Class scores [answer, model output].

        Raises:
            FloatingPointError: the scores are not numbers.
        """
        if not bool(logits.isfinite().all()):
            raise FloatingPointError("the model's answers are not numbers")
        probabilities = logits.float().softmax(-1)[:, list(self.outputs)].cpu().numpy()
        gold = np.array([-1 if example.gold is None else example.gold for example in examples])
        prob_gold = probabilities[np.arange(len(gold)), np.maximum(gold, 0)]
        answers = {
            "job": pa.repeat(self.job, len(gold)),
            "example_id": np.array([example.example_id for example in examples], np.uint32),
            "predicted": probabilities.argmax(1),
            "prob_gold": pa.array(prob_gold, mask=gold < 0),
        }
        names = self.request.names.take(pa.array(items, pa.int64()))
        return pa.table(answers | {name: names[name] for name in names.column_names})
