"""One layer of a trace with the items to attribute there, and the result: the attribution of that layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attattr_batch.engine.families import Trace
from attattr_batch.engine.path import CleanLayer, Items, Line, Replayed, removed_value, replay
from attattr_batch.engine.precision import arithmetic


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What an integration over alpha says of each item, and how good it is.

    Attributes:
        f_zero: F(0), the probability with the layer's attention scaled to zero.
        path_error: Largest absolute completeness error of the integrals from 0 to each node, in which errors
            along the path cannot cancel; NaN for a fixed rule.
        agreement_error: Largest change of a per-head maximum from the rule before (on a mesh, from coarser
            polynomials), relative to the layer's largest entry; NaN for a fixed rule.
        nodes: Nodes of the rule or mesh that was accepted.
        certified: Whether that met all criteria; False where even the largest mesh did not.
    """

    f_zero: Float[Tensor, " item"]
    path_error: Float[Tensor, " item"]
    agreement_error: Float[Tensor, " item"]
    nodes: Int[Tensor, " item"]
    certified: Bool[Tensor, " item"]


@dataclass(frozen=True, kw_only=True)
class LayerAttribution(Certificate):
    """Attribution of all items at one layer, with its certificate.

    Attributes:
        layer: 0-based layer.
        attention: Clean attention probabilities of the batch's rows.
        scores: Attribution; query positions that cannot reach the classifier, exactly zero, are left out.
        taylor: |A_h . dL/dA_h| at alpha = 1, which equals |ctx_h . dL/dctx_h|, where L = -log F is the
            cross-entropy (Michel et al. 2019, equation 3).
        taylor_released: What the authors' pruning script takes instead: the gradient of the sum of class
            scores, not of L, and the absolute value at each query position before the sum over positions.
        grad_attn: A_h . dF/dA_h at alpha = 1, signed: to first order, what removing the head takes from F.
        f_full: F(A), the clean probability.
        completeness_error: sum(scores) - (f_full - f_zero).
    """

    layer: int
    attention: Float[Tensor, "row head query key"]
    scores: Float[Tensor, "item head reach key"]
    taylor: Float[Tensor, "item head"]
    taylor_released: Float[Tensor, "item head"]
    grad_attn: Float[Tensor, "item head"]
    f_full: Float[Tensor, " item"]
    completeness_error: Float[Tensor, " item"]


@runtime_checkable
class Integrand(Protocol):
    """What the adaptive integral needs of a layer.

    Attributes:
        items: The items to attribute.
    """

    items: Items

    @property
    def signed(self) -> bool:
        """Whether a score stands for a whole head, so that the negative ones count too."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    def at_one_replayed(self) -> Replayed:
        """What a replay of all items at alpha = 1 would give."""

    def replay(self, index: Int[Tensor, " node"], alphas: Float[Tensor, " node"], dtype: str) -> Replayed:
        """F and its gradients for the item of each index at an alpha of its own."""

    def scores(
        self, gradients: Float[Tensor, "estimate item reach width"], index: Int[Tensor, " item"]
    ) -> Float[Tensor, "item head estimate query key"]:
        """Scores that follow from some estimates of the integral."""


class Layer:
    """One layer of a trace, and the items to attribute there.

    Attributes:
        items: The items.
        at_one: The clean forward pass of each item.
        number: The layer, 0-based.
        context: Clean context vectors of the batch's rows.
        attention: Clean attention probabilities of the batch's rows [row, head, query, key].
        values: Value vectors of the batch's rows [row, head, key, head_width].
    """

    signed = False

    def __init__(self, trace: Trace, layer: int, items: Items, at_one: CleanLayer, batch_tokens: int):
        self.items, self.at_one = items, at_one
        self.context = trace.contexts[layer].detach()
        self._trace, self.number, self._batch_tokens = trace, layer, batch_tokens
        self.attention, self.values = trace.attention(layer)
        # ctx_h . d(log F)/dctx_h: the Taylor score but for its sign, and dF/dalpha at 1 but for the factor F.
        self._by_head = self._head_sums(self.context[items.rows] * at_one.log_gradient, (1, 3))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.context.device

    @property
    def at_once(self) -> int:
        """Nodes of all items that are replayed together."""
        return max(1, self._batch_tokens // (len(self.items) * self._trace.batch.input_ids.shape[1]))

    def replay(self, index: Int[Tensor, " node"], alphas: Float[Tensor, " node"], dtype: str) -> Replayed:
        """F and its gradients for the item of each index at an alpha of its own."""
        return self.replay_along(None, self.items.select(index), alphas, dtype)

    def replay_along(
        self, line: Line | None, items: Items, alphas: Float[Tensor, " item"], dtype: str
    ) -> Replayed:
        """F and its gradients for any items of the batch, on a line of their own."""
        with arithmetic(dtype, self.device):
            return replay(self._trace, self.number, items, alphas, self._batch_tokens, line)

    def at_one_replayed(self) -> Replayed:
        """What a replay of all items at alpha = 1 would give; the clean forward pass has it."""
        value = self.at_one.value
        return Replayed(value, value * self._by_head.sum(1), self.at_one.gradient())

    def removed_value(self, dtype: str) -> Float[Tensor, " item"]:
        """F(0) of all items."""
        with arithmetic(dtype, self.device):
            return removed_value(self._trace, self.number, self.items, self._batch_tokens)

    def scores(
        self,
        gradients: Float[Tensor, "estimate item reach width"],
        index: Int[Tensor, " item"],
        factors: Float[Tensor, "row head query key"] | None = None,
    ) -> Float[Tensor, "item head estimate reach key"]:
        """A * (G V^T), for all heads at once.

        Args:
            gradients: Some estimates of the integral of dF/dctx.
            index: The items that they are about.
            factors: What stands in the place of A, if anything.
        """
        factors = self.attention if factors is None else factors
        rows, shape = self.items.select(index).rows, gradients.shape
        by_head = gradients.unflatten(-1, (self.attention.shape[1], -1)).permute(1, 3, 0, 2, 4)
        products = by_head.flatten(2, 3) @ self.values[rows].transpose(-1, -2)
        return products.unflatten(2, (shape[0], shape[2])).mul_(factors[rows, :, None, : shape[2]])

    def attribution(
        self, gradient: Float[Tensor, "item reach width"], certificate: Certificate
    ) -> LayerAttribution:
        """The attribution that follows from the integral of dF/dctx, and the Taylor scores."""
        at_one = self.at_one
        scores = self.scores(gradient[None], self.items.everything).squeeze(2)
        released = self._head_sums(self.context * at_one.logit_gradient, 3).abs().sum(1)
        return LayerAttribution(
            **vars(certificate),
            layer=self.number,
            attention=self.attention,
            scores=scores,
            taylor=self._by_head.abs(),
            taylor_released=released[self.items.rows],
            grad_attn=at_one.value[:, None] * self._by_head,
            f_full=at_one.value,
            completeness_error=scores.sum((1, 2, 3)) - (at_one.value - certificate.f_zero),
        )

    def uniform(self) -> Float[Tensor, "row 1 1 key"]:
        """Attention of every query of each row to its real tokens alike."""
        real = self._trace.batch.attention_mask.to(self.attention)
        return (real / real.sum(1, keepdim=True))[:, None, None]

    def _head_sums(self, products: Float[Tensor, "... width"], over: int | tuple[int, ...]) -> Tensor:
        return products.unflatten(-1, (self.attention.shape[1], -1)).sum(over)
