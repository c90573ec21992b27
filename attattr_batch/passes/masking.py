"""The pass that answers with attention heads removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.data.records import Chunk
from attattr_batch.engine.families import Encoder, check_trace, collate
from attattr_batch.engine.masking import masked_logits
from attattr_batch.passes.answering import AnswerWork


@dataclass(frozen=True, kw_only=True)
class MaskedAnswersWork(AnswerWork):
    """Settings of a worker that removes heads."""

    def worker(self, encoder: Encoder) -> MaskedAnswersWorker:
        """The worker, once its model is loaded."""
        return MaskedAnswersWorker(self, encoder)


class MaskedAnswersWorker:
    """Computes chunks of masked answers with one loaded model."""

    def __init__(self, work: MaskedAnswersWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder
        self._checked = False

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Applies every mask of every example of a chunk.

        Returns:
            Rows of `masked_answers`.
        """
        request, encoder = self._work.request, self._encoder
        pairs = [(row, index) for row, one in enumerate(chunk.example_ids) for index in request.of[one]]
        rows, items = [row for row, _ in pairs], [index for _, index in pairs]
        batch = collate(chunk.examples, encoder.pad_token_id, encoder.device)
        if not self._checked:
            with torch.no_grad():
                check_trace(encoder, encoder.trace(batch))
            self._checked = True
        logits = masked_logits(
            encoder,
            batch,
            torch.tensor(rows, device=encoder.device),
            self._unpack([request.items[index] for index in items]),
            self._work.batch_tokens,
        )
        return {"masked_answers": self._work.rows([chunk.examples[row] for row in rows], items, logits)}

    def _unpack(self, masks: Sequence[int]) -> Tensor:
        """Bits as a boolean tensor [mask, layer, head]."""
        n_layers, n_heads = self._encoder.n_layers, self._encoder.n_heads
        size = -(-n_layers * n_heads // 8)
        packed = np.frombuffer(b"".join(mask.to_bytes(size, "little") for mask in masks), np.uint8)
        bits = np.unpackbits(packed.reshape(len(masks), size), axis=1, bitorder="little")
        removed = torch.from_numpy(bits[:, : n_layers * n_heads].astype(bool))
        return removed.unflatten(1, (n_layers, n_heads)).to(self._encoder.device)
