"""Mean context vectors of heads over rows of a dataset: a baseline, and what stands in for removed heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from attattr_batch.data.records import EncodedExample, make_chunks
from attattr_batch.engine.families import Encoder, collate


@torch.no_grad()
def mean_contexts(
    encoder: Encoder, examples: Sequence[EncodedExample], batch_tokens: int
) -> Float[Tensor, "layer width"]:
    """The mean of each head's context vectors over all real tokens of some rows, special ones included.

    Every token counts the same, so a long row counts more than a short one. In the last layer too, all tokens
    count, though the first one's context may be all that the classifier sees. Sums are float64: the order of
    rows and their batches change the means by no more than the rounding of the forward passes.

    Args:
        encoder: The model.
        examples: The rows; at least one.
        batch_tokens: Tokens computed at once; bounds memory.

    Returns:
        Heads side by side, float64, on the model's device.
    """
    numbered = [replace(example, example_id=place) for place, example in enumerate(examples)]
    total, n_tokens = torch.zeros((), dtype=torch.float64, device=encoder.device), 0
    for part in make_chunks(numbered, batch_tokens, len(numbered)):  # in batches of like length
        batch = collate(part.examples, encoder.pad_token_id, encoder.device)
        trace, real = encoder.trace(batch), batch.attention_mask[:, None, :, None]
        contexts = []
        for layer in range(encoder.n_layers):
            attention, values = trace.attention(layer)
            # Rows of padding may be anything, NaN included.
            context = (attention @ values).double().masked_fill(~real, 0)
            contexts.append(context.sum((0, 2)).flatten())
        total = total + torch.stack(contexts)
        n_tokens += sum(example.n_tokens for example in part.examples)
    return total / n_tokens
