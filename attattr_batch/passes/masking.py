"""The masked-accuracy pass: the model's answers with attention heads removed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.data.records import Chunk
from attattr_batch.engine.families import Encoder, check_trace, collate
from attattr_batch.engine.masking import masked_logits
from attattr_batch.passes.model_work import ModelWork, answer_columns
from attattr_batch.passes.requests import Mask, Request


@dataclass(frozen=True, kw_only=True)
class MaskedAccuracyWork(ModelWork):
    """Settings of a masked-accuracy worker.

    Attributes:
        job: Job that ordered the pass.
        order: Masks of every example.
        batch_tokens: Tokens computed at once; bounds memory.
    """

    job: str
    order: Request[Mask]
    batch_tokens: int

    def worker(self, encoder: Encoder) -> MaskedAccuracyWorker:
        """The worker, once its model is loaded."""
        return MaskedAccuracyWorker(self, encoder)

    def on_cpu(self, batch_tokens: int) -> MaskedAccuracyWork:
        """The same work on a CPU, in batches of its own size."""
        return replace(self, device="cpu", batch_tokens=batch_tokens)


class MaskedAccuracyWorker:
    """Computes chunks of masked answers with one loaded model."""

    def __init__(self, work: MaskedAccuracyWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder
        self._checked = False

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Runs every mask of every example of a chunk.

        Returns:
            Rows of `mask_outcomes`.
        """
        order, encoder = self._work.order, self._encoder
        pairs = [(row, index) for row, one in enumerate(chunk.example_ids) for index in order.of[one]]
        rows = [row for row, _ in pairs]
        masks = [order.items[index] for _, index in pairs]
        batch = collate(chunk.examples, encoder.pad_token_id, encoder.device)
        if not self._checked:
            with torch.no_grad():
                check_trace(encoder, encoder.trace(batch))
            self._checked = True
        logits = masked_logits(
            encoder,
            batch,
            torch.tensor(rows, device=encoder.device),
            self._unpack(masks),
            self._work.batch_tokens,
        )
        answers = answer_columns(self._work, [chunk.examples[row] for row in rows], logits)
        return {"mask_outcomes": pa.table({**answers, "mask": [mask.name for mask in masks]})}

    def _unpack(self, masks: list[Mask]) -> Tensor:
        """Bits as a boolean tensor [pass, layer, head]."""
        n_layers, n_heads = self._encoder.n_layers, self._encoder.n_heads
        size = -(-n_layers * n_heads // 8)
        packed = np.frombuffer(b"".join(mask.heads.to_bytes(size, "little") for mask in masks), np.uint8)
        bits = np.unpackbits(packed.reshape(len(masks), size), axis=1, bitorder="little")
        removed = torch.from_numpy(bits[:, : n_layers * n_heads].astype(bool))
        return removed.unflatten(1, (n_layers, n_heads)).to(self._encoder.device)
