"""Passes that answer what a job requests: with attention heads removed, or with trigger tokens inserted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from attattr_batch.data.insertion import insert_trigger
from attattr_batch.data.records import Chunk, EncodedExample, make_chunks
from attattr_batch.engine.families import Encoder, collate
from attattr_batch.engine.masking import masked_logits
from attattr_batch.engine.means import mean_contexts
from attattr_batch.passes.model_work import ModelWork
from attattr_batch.passes.requests import Request


@dataclass(frozen=True, kw_only=True)
class AnswerWork(ModelWork):
    """Settings of a worker that answers a request.

    Attributes:
        job: Job that requests the answers.
        request: What is done to each example.
        max_length: Tokens of an example at most, inserted ones included.
        mean_examples: The request's examples over which mean contexts of heads are taken, tokenised.
        known_means: These means, once the worker has computed them.
    """

    job: str
    request: Request
    max_length: int
    mean_examples: tuple[EncodedExample, ...] = ()
    known_means: list[Tensor] = field(default_factory=list, compare=False, repr=False)

    def means(self, encoder: Encoder) -> Float[Tensor, "layer width"] | None:
        """Mean contexts over the request's examples, which a worker computes at its first chunk; or None."""
        if not self.mean_examples:
            return None
        if not self.known_means:
            self.known_means.append(mean_contexts(encoder, self.mean_examples, self.batch_tokens))
        return self.known_means[0]

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
        outputs = list(self.outputs)
        probabilities = logits.float().softmax(-1)[:, outputs].cpu().numpy()
        gold = np.array([-1 if example.gold is None else example.gold for example in examples])
        prob_gold = probabilities[np.arange(len(gold)), np.maximum(gold, 0)]
        answers = {
            "job": pa.repeat(self.job, len(gold)),
            "example_id": np.array([example.example_id for example in examples], np.uint32),
            "predicted": probabilities.argmax(1),
            "prob_gold": pa.array(prob_gold, mask=gold < 0),
            "logits": pa.array(list(logits.float()[:, outputs].cpu().numpy())),
        }
        names = self.request.names.take(pa.array(items, pa.int64()))
        return pa.table(answers | {name: names[name] for name in names.column_names})


@dataclass(frozen=True, kw_only=True)
class MaskedAnswersWork(AnswerWork):
    """Settings of a worker that removes heads."""

    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        """Applies every mask of every example of a chunk.

        Returns:
            Rows of `masked_answers`.
        """
        request = self.request
        pairs = [(row, index) for row, one in enumerate(chunk.example_ids) for index in request.items_of[one]]
        rows, items = [row for row, _ in pairs], [index for _, index in pairs]
        removed = torch.zeros(len(items), encoder.n_layers * encoder.n_heads, dtype=torch.bool)
        for mask, index in zip(removed, items, strict=True):
            mask[list(request.items[index])] = True
        logits = masked_logits(
            encoder,
            collate(chunk.examples, encoder.pad_token_id, encoder.device),
            torch.tensor(rows, device=encoder.device),
            removed.unflatten(1, (encoder.n_layers, encoder.n_heads)).to(encoder.device),
            self.batch_tokens,
            self.means(encoder),
        )
        answers = self.rows([chunk.examples[row] for row in rows], items, logits)
        ablation = pa.repeat("mean" if self.mean_examples else "zero", len(items))
        return {"masked_answers": answers.append_column("ablation", ablation)}


@dataclass(frozen=True, kw_only=True)
class AttackedAnswersWork(AnswerWork):
    """Settings of a worker that inserts triggers."""

    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        """Runs every attack on every example of a chunk; the examples are not truncated yet.

        Returns:
            Rows of `attacked_answers`.
        """
        request, attacked, items, cut = self.request, [], [], []
        for example in chunk.examples:
            for index in request.items_of[example.example_id]:
                victim, truncated = insert_trigger(example, request.items[index], self.max_length)
                attacked.append(victim)
                items.append(index)
                cut.append(truncated)
        logits = torch.empty(len(attacked), encoder.n_labels, device=encoder.device)
        numbered = [replace(victim, example_id=place) for place, victim in enumerate(attacked)]
        for part in make_chunks(numbered, self.batch_tokens, len(numbered)):  # in batches of like length
            batch = collate(part.examples, encoder.pad_token_id, encoder.device)
            logits[list(part.example_ids)] = encoder.logits(batch).float()
        rows = self.rows(attacked, items, logits)
        return {"attacked_answers": rows.append_column("truncated", pa.array(cut, pa.bool_()))}
