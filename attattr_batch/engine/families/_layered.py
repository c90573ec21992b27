"""The fast path: families whose layers the engine can run itself, from any layer upward."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from attattr_batch.engine.families._base import Batch, Encoder, Trace, remaining_context


class LayeredEncoder(Encoder):
    """An encoder given by its parts: embedding, projections, the rest of a layer, classifier.

    All these families classify from the first token, so the last layer computes queries for that token
    alone, and keys and values for all.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self.body: Any = model.base_model
        self.head_width = model.config.hidden_size // self.n_heads
        self._joined: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def embed(self, batch: Batch) -> Float[Tensor, "row token width"]:
        """Input of layer 0."""

    @abstractmethod
    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""

    @abstractmethod
    def after_attention(
        self,
        layer: int,
        hidden: Float[Tensor, "replay reach width"],
        context: Float[Tensor, "replay reach width"],
    ) -> Float[Tensor, "replay reach width"]:
        """The rest of a layer: output projection, residual, normalisation, feed-forward network."""

    @abstractmethod
    def classify(self, hidden: Float[Tensor, "replay reach width"]) -> Float[Tensor, "replay label"]:
        """Class scores from the last layer's output at the first token."""

    def reach(self, layer: int) -> int | None:
        """How many leading positions of a layer's output can influence the classifier (None: all)."""
        return 1 if layer == self.n_layers - 1 else None

    def project(
        self, layer: int, hidden: Float[Tensor, "replay token width"], reach: int | None = None
    ) -> tuple[Tensor, ...]:
        """Queries (at the first `reach` positions), keys, values, each [replay, head, token, head_width]."""
        weight, bias = self._projection(layer)
        if reach is None:
            return self._by_head(F.linear(hidden, weight, bias), 3)
        width = len(bias) // 3
        queries = F.linear(hidden[:, :reach], weight[:width], bias[:width])
        return self._by_head(queries, 1) + self._by_head(F.linear(hidden, weight[width:], bias[width:]), 2)

    def _projection(self, layer: int) -> tuple[Float[Tensor, "three_widths width"], Tensor]:
        """Weights and biases of a layer's three projections as those of one: a third of the products."""
        modules = self.projections(layer)
        if modules[0] not in self._joined:
            weights, biases = zip(*((module.weight, module.bias) for module in modules), strict=True)
            self._joined[modules[0]] = torch.cat(weights).detach(), torch.cat(biases).detach()
        return self._joined[modules[0]]

    def context(
        self, layer: int, hidden: Float[Tensor, "replay token width"], mask: Tensor | None
    ) -> Float[Tensor, "replay reach width"]:
        """Context vectors of a layer through the fused kernel, at the positions that matter."""
        query, key, value = self.project(layer, hidden, self.reach(layer))
        return _fused_attention(query, key, value, mask).transpose(1, 2).flatten(2)

    def _by_head(self, projected: Float[Tensor, "replay token widths"], parts: int) -> tuple[Tensor, ...]:
        shape = (parts, self.n_heads, self.head_width)
        return projected.unflatten(-1, shape).permute(2, 0, 3, 1, 4).unbind()

    def _trace(self, batch: Batch) -> Trace:
        return _LayeredTrace(self, batch)


class _LayeredTrace(Trace):
    def __init__(self, encoder: LayeredEncoder, batch: Batch):
        self.batch = batch
        self._encoder = encoder
        self._mask = _added_mask(batch, encoder.model.dtype)
        self._inputs: list[Tensor] = []
        self.contexts = []
        with torch.no_grad():
            hidden = encoder.embed(batch)
            first = encoder.context(0, hidden, self._mask)
        # Nothing below the first context vectors needs a gradient: they are the graph's only leaf.
        context = first.requires_grad_()
        for layer in range(encoder.n_layers):
            if layer > 0:
                context = encoder.context(layer, hidden, self._mask)
            self._inputs.append(hidden.detach())
            self.contexts.append(context)
            hidden = encoder.after_attention(layer, hidden[:, : encoder.reach(layer)], context)
        self.logits = encoder.classify(hidden)

    @torch.no_grad()
    def attention(self, layer: int) -> tuple[Tensor, Tensor]:
        query, key, value = self._encoder.project(layer, self._inputs[layer])
        scores = query @ key.transpose(-1, -2) * self._encoder.head_width**-0.5
        if self._mask is not None:
            scores = scores + self._mask
        return scores.softmax(-1), value

    def replay(self, layer: int, rows: Int[Tensor, " replay"], context: Tensor) -> Tensor:
        encoder = self._encoder
        mask = None if self._mask is None else self._mask[rows]
        hidden = self._inputs[layer][rows, : encoder.reach(layer)]
        hidden = encoder.after_attention(layer, hidden, context)
        for upper in range(layer + 1, encoder.n_layers):
            reach = encoder.reach(upper)
            hidden = encoder.after_attention(upper, hidden[:, :reach], encoder.context(upper, hidden, mask))
        # One position is left: exact class scores cost nothing, and rounded ones would be the largest error.
        with torch.autocast(hidden.device.type, enabled=False):
            return encoder.classify(hidden.to(self.logits.dtype))

    def without_heads(
        self,
        first: int,
        rows: Int[Tensor, " replay"],
        head_mask: Bool[Tensor, "replay layer head"],
        means: Tensor | None = None,
    ) -> Tensor:
        encoder = self._encoder
        mask = None if self._mask is None else self._mask[rows]
        hidden = self._inputs[first][rows]
        for layer in range(first, encoder.n_layers):
            context = encoder.context(layer, hidden, mask)
            mean = None if means is None else means[layer]
            context = remaining_context(context, head_mask[:, layer], mean)
            hidden = encoder.after_attention(layer, hidden[:, : encoder.reach(layer)], context)
        return encoder.classify(hidden)


def _added_mask(batch: Batch, dtype: torch.dtype) -> Float[Tensor, "row 1 1 token"] | None:
    """What is added to the attention scores: -inf at padding. None where there is no padding."""
    if not batch.padded:
        return None
    mask = torch.zeros(batch.attention_mask.shape, dtype=dtype, device=batch.attention_mask.device)
    return mask.masked_fill_(~batch.attention_mask, -torch.inf)[:, None, None, :]


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    if query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16):
        # The CPU's backward kernel takes five times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
