"""Class scores with attention heads removed (pruning and ablation; paper, sections 4.2 and 4.3).

The attention probabilities of a removed head are multiplied by zero after the softmax, so its context is
zero; or its mean context over some rows (`engine.means`) stands in its place, at every query. The other heads
are not rescaled.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attattr_batch.engine.families import Batch, Encoder


@torch.no_grad()
def masked_logits(
    encoder: Encoder,
    batch: Batch,
    rows: Int[Tensor, " replay"],
    removed: Bool[Tensor, "replay layer head"],
    batch_tokens: int,
    means: Float[Tensor, "layer width"] | None = None,
) -> Float[Tensor, "replay label"]:
    """Runs every (row, mask) pair of a batch; equal pairs are computed once.

    Layers below the lowest one in which a pair removes a head come from one clean forward pass, so removing a
    single head costs half a forward pass on average.

    Args:
        encoder: The model.
        batch: The examples.
        rows: For every replay, its batch row.
        removed: For every replay, True for the heads to remove.
        batch_tokens: Tokens computed at once; bounds memory.
        means: Mean contexts that stand in for removed heads, heads side by side; None for zero.
    """
    trace = encoder.trace(batch)
    keys = torch.cat([rows[:, None], removed.flatten(1).long()], 1)
    distinct, places = keys.unique(dim=0, return_inverse=True)
    rows, head_mask = distinct[:, 0], ~distinct[:, 1:].bool().unflatten(1, removed.shape[1:])
    touched = torch.cat([(~head_mask).any(2), torch.ones_like(rows, dtype=torch.bool)[:, None]], 1)
    lowest = touched.long().argmax(1)  # n_layers where nothing is removed
    logits = trace.logits[rows].clone()
    at_once = max(1, batch_tokens // batch.input_ids.shape[1])
    for first in range(encoder.n_layers):
        for some in (lowest == first).nonzero().squeeze(1).split(at_once):
            if len(some):  # nothing is split into one empty part, with which some families cannot run
                logits[some] = trace.without_heads(first, rows[some], head_mask[some], means)
    return logits[places]
