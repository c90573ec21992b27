"""Other paths, baselines and weights of the integral by autograd over explicit matrices, no code shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attattr_batch.engine.quadrature import Rule
from attattr_batch.engine.variants import PathVariant
from helpers import naive


@dataclass(frozen=True)
class ByLoop:
    """One layer of a model, and the class attributed in each input row.

    Attributes:
        model: A classifier in float64.
        inputs: Its inputs.
        classes: Class of each input row.
        means: Mean contexts [layer, width].
        variant: The path.
        layer: Where.
    """

    model: Any
    inputs: dict[str, Tensor]
    classes: Tensor
    means: Tensor
    variant: PathVariant
    layer: int

    def scores(self, rule: Rule) -> tuple[Tensor, Tensor]:
        """Scores [item, head, query, key], and F at alpha = 0 [item, head].

        The path is one of attention matrices; the baseline `mean`, which no attention gives, is one of
        contexts: there each head's number is in [item, head, 0, 0].
        """
        n_heads = self.model.config.num_attention_heads
        alone = torch.eye(n_heads, dtype=torch.float64)
        moved = alone if self.variant.path == "head" else torch.ones(1, n_heads, dtype=torch.float64)
        total: Any = 0
        f_zero = torch.zeros(len(self.classes), n_heads, dtype=torch.float64)
        for moves in moved:
            f_zero += self._at(0.0, moves)[0].detach()[:, None] * moves
            for alpha, weight in zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True):
                value, leaf, way = self._at(alpha, moves)
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
                part = gradient * way
                if self.variant.baseline == "mean":
                    part = part.sum((1, 3))[:, :, None, None]
                if self.variant.weights == "idg":
                    part = part * part.sum((1, 2, 3), keepdim=True)
                total = total + weight * part
        return total, f_zero

    def _at(self, alpha: float, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F, the leaf that was put in the place of the clean one, and the leaf's way from its base."""
        seen: list[Tensor] = []
        of_contexts = self.variant.baseline == "mean"

        def put(clean: Tensor, base: Tensor, each: Tensor) -> Tensor:
            way = (clean - base) * each
            leaf = (clean - way + alpha * way).detach().requires_grad_()
            seen.extend([leaf, way.detach()])
            return leaf

        def attention(layer: int, clean: Tensor) -> Tensor:
            if layer != self.layer or of_contexts:
                return clean
            base = torch.zeros_like(clean)
            if self.variant.baseline == "uniform":
                real = self.inputs["attention_mask"].double()
                base = base + (real / real.sum(1, keepdim=True))[:, None, None]
            return put(clean, base, moves[:, None, None])

        def context(layer: int, clean: Tensor) -> Tensor:
            if layer != self.layer or not of_contexts:
                return clean
            shape = (len(moves), -1)
            base = self.means[layer].unflatten(0, shape)
            return put(clean.unflatten(-1, shape), base, moves[:, None]).flatten(2)

        with naive.replaced(self.model, attention, context):
            logits = self.model(**self.inputs).logits
        value = logits.softmax(-1).gather(1, self.classes[:, None]).squeeze(1)
        leaf, way = seen
        return value, leaf, way
