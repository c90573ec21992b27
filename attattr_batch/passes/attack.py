"""The attack pass: the model's answers with trigger tokens inserted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.data.insertion import insert_trigger
from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.families import Encoder, collate
from attattr_batch.passes.model_work import ModelWork, answer_columns
from attattr_batch.passes.requests import Attack, Request


@dataclass(frozen=True, kw_only=True)
class AttackWork(ModelWork):
    """Settings of an attack worker.

    Attributes:
        job: Job that ordered the pass.
        order: Attacks on every example.
        batch_tokens: Tokens computed at once; bounds memory.
        max_length: Tokens of an attacked example at most.
    """

    job: str
    order: Request[Attack]
    batch_tokens: int
    max_length: int

    def worker(self, encoder: Encoder) -> AttackWorker:
        """The worker, once its model is loaded."""
        return AttackWorker(self, encoder)

    def on_cpu(self, batch_tokens: int) -> AttackWork:
        """The same work on a CPU, in batches of its own size."""
        return replace(self, device="cpu", batch_tokens=batch_tokens)


class AttackWorker:
    """Computes chunks of attacked answers with one loaded model."""

    def __init__(self, work: AttackWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Runs every attack on every example of a chunk; the examples are not truncated yet.

        Returns:
            Rows of `attack_outcomes`.
        """
        order = self._work.order
        pairs = [
            (example, order.items[index])
            for example in chunk.examples
            for index in order.of[example.example_id]
        ]
        attacked, cut = [], []
        for example, attack in pairs:
            victim, truncated = insert_trigger(example, attack.trigger, self._work.max_length)
            attacked.append(victim)
            cut.append(truncated)
        answers = answer_columns(self._work, attacked, self._logits(attacked))
        names = [attack.name for _, attack in pairs]
        return {"attack_outcomes": pa.table({**answers, "attack": names, "truncated": cut})}

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
