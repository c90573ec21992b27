"""What the adaptive integral of one layer has computed so far, and what it knows from that."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.path import Nodes
from attattr_batch.engine.quadrature import Rule, nested, partial_weights


class KnownNodes:
    """Nodes computed so far for the active items, by alpha."""

    def __init__(self, clean: Nodes):
        self._values = {1.0: clean.value[0]}
        self._gradients = {1.0: clean.gradient[0]}

    def missing(self, rule: Rule) -> list[float]:
        """The rule's nodes that are still to be computed; nodes that no later rule has are forgotten."""
        alphas = rule.nodes.tolist()
        self._values = {alpha: value for alpha, value in self._values.items() if alpha in alphas}
        self._gradients = {alpha: known for alpha, known in self._gradients.items() if alpha in alphas}
        return [alpha for alpha in alphas if alpha not in self._values]

    def add(self, alphas: list[float], nodes: Nodes) -> None:
        """Enters nodes that have been computed."""
        self._values.update(zip(alphas, nodes.value, strict=True))
        self._gradients.update(zip(alphas, nodes.gradient, strict=True))

    def keep(self, index: Tensor) -> None:
        """Drops the items that are not in `index`."""
        self._values = {alpha: value[index] for alpha, value in self._values.items()}
        self._gradients = {alpha: gradient[index] for alpha, gradient in self._gradients.items()}

    def integral(self, rule: Rule) -> Float[Tensor, "item reach width"]:
        """The integral of dF/dctx by a rule all of whose nodes are known."""
        total = torch.zeros_like(self._gradients[1.0])
        for alpha, weight in zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True):
            total.add_(self._gradients[alpha], alpha=weight)
        return total

    def value_at_zero(self) -> Float[Tensor, " item"]:
        """F(0)."""
        return self._values[0.0]

    def path_error(
        self, rule: Rule, context: Float[Tensor, "item reach width"]
    ) -> tuple[Float[Tensor, " item"], Float[Tensor, " item"]]:
        """Compares F(alpha) - F(0) with the integral of dF/dalpha up to alpha, at every node.

        Returns:
            The largest difference, and the largest |F(alpha) - F(0)|.
        """
        alphas = rule.nodes.tolist()
        slopes = torch.stack([(self._gradients[alpha] * context).sum((1, 2)) for alpha in alphas])
        rises = torch.stack([self._values[alpha] for alpha in alphas]) - self._values[0.0]
        weights = torch.from_numpy(_partial_weights(len(rule))).to(rises)
        return (weights @ slopes.to(rises) - rises).abs().amax(0), rises.abs().amax(0)


@cache
def _partial_weights(size: int) -> NDArray[np.float64]:
    return partial_weights(nested(size).nodes)
