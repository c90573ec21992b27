"""The pass that answers with trigger tokens inserted."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.data.insertion import insert_trigger
from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.families import Encoder, collate
from attattr_batch.passes.answering import AnswerWork


@dataclass(frozen=True, kw_only=True)
class AttackedAnswersWork(AnswerWork):
    """Settings of a worker that inserts triggers.

    Attributes:
        max_length: Tokens of an attacked example at most.
    """

    max_length: int

    def worker(self, encoder: Encoder) -> AttackedAnswersWorker:
        """The worker, once its model is loaded."""
        return AttackedAnswersWorker(self, encoder)


class AttackedAnswersWorker:
    """Computes chunks of attacked answers with one loaded model."""

    def __init__(self, work: AttackedAnswersWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Runs every attack on every example of a chunk; the examples are not truncated yet.

        Returns:
            Rows of `attacked_answers`.
        """
        request, attacked, items, cut = self._work.request, [], [], []
        for example in chunk.examples:
            for index in request.of[example.example_id]:
                victim, truncated = insert_trigger(example, request.items[index], self._work.max_length)
                attacked.append(victim)
                items.append(index)
                cut.append(truncated)
        rows = self._work.rows(attacked, items, self._logits(attacked))
        return {"attacked_answers": rows.append_column("truncated", pa.array(cut, pa.bool_()))}

    def _logits(self, examples: list[EncodedExample]) -> Tensor:
        """Class scores, computed in batches of like length."""
        encoder = self._encoder
        order = sorted(range(len(examples)), key=lambda index: -examples[index].n_tokens)
        logits = torch.empty(len(examples), encoder.n_labels, device=encoder.device)
        start = 0
        while start < len(order):
            rows = max(1, self._work.batch_tokens // examples[order[start]].n_tokens)
            some = order[start : start + rows]
            batch = collate([examples[index] for index in some], encoder.pad_token_id, encoder.device)
            logits[some] = encoder.logits(batch).float()
            start += rows
        return logits
