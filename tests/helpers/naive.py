"""The reference: integrated gradients by autograd over explicit attention matrices, no code shared.

Nothing here comes from `engine.families`: an attention function (for DeBERTa, its dropout modules) hands
over each layer's matrix, and whatever comes back is used in its stead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from attattr_batch.engine.quadrature import Rule

Substitute = Callable[[int, Tensor], Tensor]
"""Called once a layer with (layer, attention matrices); returns those to use."""


@dataclass(frozen=True)
class Reference:
    """By layer: scores and clean attention [item, head, query, key], F(0) [item]; and F(A) [item]."""

    scores: list[Tensor]
    attention: list[Tensor]
    f_zero: list[Tensor]
    f_full: Tensor


def reference(model: Any, inputs: dict[str, Tensor], classes: Tensor, rule: Rule) -> Reference:
    """Attributes the probability of one class an input row, all heads of a layer scaled by alpha."""

    def probability(use: Substitute) -> Tensor:
        with _attention(model, use):
            logits: Tensor = model(**inputs).logits
        return logits.softmax(-1).gather(1, classes[:, None]).squeeze(1)

    attention: list[Tensor] = []

    def record(_: int, clean: Tensor) -> Tensor:
        attention.append(clean.detach())
        return clean

    f_full = probability(record).detach()
    scores, f_zero = [], []
    for layer, clean in enumerate(attention):
        total = torch.zeros_like(clean)
        for alpha, weight in zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True):
            scaled = (alpha * clean).requires_grad_()
            value = probability(_at(layer, scaled))
            total += weight * torch.autograd.grad(value.sum(), scaled)[0]
        scores.append(clean * total)
        f_zero.append(probability(_at(layer, torch.zeros_like(clean))).detach())
    return Reference(scores, attention, f_zero, f_full)


def reference_gradient(
    model: Any, inputs: dict[str, Tensor], loss: Callable[[Tensor], Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Each layer's clean attention and the gradient of the loss with respect to it."""
    attention: list[Tensor] = []

    def record(_: int, clean: Tensor) -> Tensor:
        attention.append(clean if clean.requires_grad else clean.requires_grad_())
        return attention[-1]

    with _attention(model, record):
        logits: Tensor = model(**inputs).logits
    gradients = torch.autograd.grad(loss(logits), attention)
    return [(clean.detach(), gradient) for clean, gradient in zip(attention, gradients, strict=True)]


def masked_logits(model: Any, inputs: dict[str, Tensor], head_mask: Tensor) -> Tensor:
    """Class scores with attention matrices times `head_mask` [pass, layer, head], one pass an input row."""
    with torch.no_grad(), _attention(model, lambda layer, clean: clean * head_mask[:, layer, :, None, None]):
        logits: Tensor = model(**inputs).logits
    return logits


def mean_masked_logits(model: Any, inputs: dict[str, Tensor], head_mask: Tensor, means: Tensor) -> Tensor:
    """The same with `means` [layer, width] in the place of the context of each head that is removed."""

    def context(layer: int, clean: Tensor) -> Tensor:
        kept = head_mask[:, layer].repeat_interleave(clean.shape[2] // head_mask.shape[2], 1)[:, None]
        return clean * kept + means[layer] * (1 - kept)

    with torch.no_grad(), replaced(model, lambda _, clean: clean, context):
        logits: Tensor = model(**inputs).logits
    return logits


def contexts(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Each layer's context vectors [row, token, width]."""
    seen = []

    def record(_: int, clean: Tensor) -> Tensor:
        seen.append(clean)
        return clean

    with torch.no_grad(), replaced(model, lambda _, clean: clean, record):
        model(**inputs)
    return seen


@contextmanager
def replaced(model: Any, attention: Substitute, context: Substitute) -> Iterator[None]:
    """Has attention matrices replaced, and then the context vectors that come of them."""
    if model.config.model_type != "deberta-v2":
        with _attention(model, attention, context):
            yield
        return
    hooks = [
        block.attention.self.register_forward_hook(
            lambda _, __, output, layer=layer: (context(layer, output[0]), *output[1:])
        )
        for layer, block in enumerate(model.deberta.encoder.layer)
    ]
    with _attention(model, attention):
        yield
    for hook in hooks:
        hook.remove()


def _at(layer: int, replacement: Tensor) -> Substitute:
    return lambda at, clean: replacement if at == layer else clean


@contextmanager
def _attention(model: Any, use: Substitute, use_context: Substitute | None = None) -> Iterator[None]:
    if model.config.model_type == "deberta-v2":
        with _in_place_of_dropout(model, use):
            yield
        return
    layers = count()

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + mask
        layer = next(layers)
        weights = use(layer, scores.softmax(-1))
        heads = (weights @ value).transpose(1, 2).contiguous()
        if use_context is not None:
            heads = use_context(layer, heads.flatten(2)).view_as(heads)
        return heads, weights

    AttentionInterface.register("naive", attend)
    AttentionMaskInterface.register("naive", eager_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = "naive"
    yield
    model.config._attn_implementation = before


class _Substituting(nn.Module):
    def __init__(self, layer: int, use: Substitute):
        super().__init__()
        self.layer, self.use = layer, use

    def forward(self, attention: Tensor) -> Tensor:
        return self.use(self.layer, attention)


@contextmanager
def _in_place_of_dropout(model: Any, use: Substitute) -> Iterator[None]:
    modules = [block.attention.self for block in model.deberta.encoder.layer]
    before = [module.dropout for module in modules]
    for layer, module in enumerate(modules):
        module.dropout = _Substituting(layer, use)
    yield
    for module, dropout in zip(modules, before, strict=True):
        module.dropout = dropout
