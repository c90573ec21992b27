"""What the engine is compared with: the authors' released procedure, and Captum's integrated gradients.

Both are written here straight from their definitions, on explicit attention matrices of a BERT classifier of
transformers; no code is shared with `attattr_batch.engine`. Both put the scaled matrices where the authors'
model does: in front of the values of the attributed layer. So one row runs up to there, and its scaled copies
run only from there upward. A test counts the matrix products of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

RELEASED_LENGTH, RELEASED_STEPS = 128, 20

Substitute = Callable[[int, Tensor, Tensor], Tensor]
"""Called once for each layer with (layer, attention matrices, values); returns the context vectors."""


def released(model: Any, input_ids: list[int], segments: list[int], label: int) -> list[Tensor]:
    """The procedure of the authors' pruning script for one example, padded to 128 tokens.

    (To the model's own limit where that is less.)

    For every layer: one forward for the attention; another in which 20 scaled copies of it meet the values of
    the layer; a backward down to the copies; and the mean of the gradients (left Riemann sum).

    Returns:
        Attribution by layer [head, query, key].
    """
    padding = min(RELEASED_LENGTH, model.config.max_position_embeddings) - len(input_ids)
    inputs = {
        "input_ids": torch.tensor([input_ids + [0] * padding]),
        "token_type_ids": torch.tensor([segments + [0] * padding]),
        "attention_mask": torch.tensor([[1] * len(input_ids) + [0] * padding]),
    }
    alphas = torch.arange(RELEASED_STEPS) / RELEASED_STEPS
    scores = []
    for layer in range(model.config.num_hidden_layers):
        clean = _clean_attention(model, inputs, layer)
        scaled = (alphas[:, None, None, None] * clean).requires_grad_()
        value = _probability(model, inputs, layer, scaled, label)
        (gradient,) = torch.autograd.grad(value.sum(), scaled)
        scores.append((clean * gradient.mean(0))[0])
    return scores


def captum(model: Any, input_ids: list[int], segments: list[int], label: int, steps: int) -> list[Tensor]:
    """Captum's IntegratedGradients (Gauss-Legendre) over the attention of each layer, without padding.

    Returns:
        Attribution by layer [head, query, key].
    """
    inputs = {
        "input_ids": torch.tensor([input_ids]),
        "token_type_ids": torch.tensor([segments]),
        "attention_mask": torch.ones(1, len(input_ids), dtype=torch.long),
    }
    scores = []
    for layer in range(model.config.num_hidden_layers):
        clean = _clean_attention(model, inputs, layer)

        def value(attention: Tensor, at: int = layer) -> Tensor:
            return _probability(model, inputs, at, attention, label)

        scores.append(IntegratedGradients(value).attribute(clean, n_steps=steps)[0])
    return scores


def _clean_attention(model: Any, inputs: dict[str, Tensor], layer: int) -> Tensor:
    found: list[Tensor] = []

    def record(at: int, attention: Tensor, value: Tensor) -> Tensor:
        if at == layer:
            found.append(attention)
        return attention @ value

    with torch.no_grad(), _attention(model, record):
        model(**inputs)
    return found[0]


def _probability(model: Any, inputs: dict[str, Tensor], layer: int, attention: Tensor, label: int) -> Tensor:
    """Class probability of each matrix [pass, head, query, key] put in the place of a layer's attention.

    Layers below run on the one row, and so do queries, keys and values of this layer; its context, and all
    above, have a copy for each pass.
    """
    context: list[Tensor] = []

    def at_values(at: int, clean: Tensor, value: Tensor) -> Tensor:
        if at == layer:
            context.append((attention @ value).transpose(1, 2).flatten(2))
            return value  # has the shape that the module expects; `spread` replaces it
        return clean @ value

    def spread(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return context[0], output[1]

    handle = model.bert.encoder.layer[layer].attention.self.register_forward_hook(spread)
    try:
        with _attention(model, at_values):
            logits: Tensor = model(**inputs).logits
    finally:
        handle.remove()
    return logits.softmax(-1)[:, label]


@contextmanager
def _attention(model: Any, use: Substitute) -> Iterator[None]:
    layers = count()

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + mask
        weights = scores.softmax(-1)
        return use(next(layers), weights, value).transpose(1, 2).contiguous(), weights

    AttentionInterface.register("baseline", attend)
    AttentionMaskInterface.register("baseline", eager_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = "baseline"
    try:
        yield
    finally:
        model.config._attn_implementation = before
