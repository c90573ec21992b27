"""Integration where F is steep: nodes of its own for every item, refined where F shows an error.

Where the nested rules end without success, F jumps somewhere in [0, 1] and is smooth elsewhere. From there on
dF/dctx is integrated from each node to the next by the polynomial through the nodes nearby. Because F is
known at every node, so is the error of each of these integrals; and only where it is too large the interval
gets a node in its middle. No node is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.path import Estimate, Nodes
from attattr_batch.engine.quadrature import STENCIL, interval_weights

MOST_NODES = 61
"""Nodes of an item at most; all but the one at alpha = 1 are replays."""

SHARE = 0.9
"""Error of one interval, as a share of the path error asked for, above which it gets another node."""


class Mesh:
    """F and dF/dctx at the nodes of each item.

    The nodes of all items stand in one list, so that those of a round are replayed in one batch.
    """

    def __init__(self, alphas: NDArray[np.float64], nodes: Nodes, context: Float[Tensor, "item reach width"]):
        """Starts with nodes that all items share.

        Args:
            alphas: Where they are.
            nodes: F and dF/dctx there.
            context: Clean context vectors of each item.
        """
        n_items = nodes.value.shape[1]
        self._context = context
        self._item = np.empty(0, np.int64)
        self._alpha, self._value, self._slope = (np.empty(0) for _ in range(3))
        self._gradient = nodes.gradient.new_empty((0, *context.shape[1:]))
        every = np.tile(np.arange(n_items), len(alphas))
        self.add(every, np.repeat(alphas, n_items), nodes.value.flatten(), nodes.gradient.flatten(0, 1))

    def add(
        self,
        item: NDArray[np.int64],
        alpha: NDArray[np.float64],
        value: Float[Tensor, " node"],
        gradient: Float[Tensor, "node reach width"],
    ) -> None:
        """Enters nodes that have been computed, each of the item of that number."""
        slope = (gradient * self._context[torch.from_numpy(item).to(gradient.device)]).sum((1, 2))
        told = torch.stack([value, slope.to(value)]).cpu().numpy()
        self._item, self._alpha = np.append(self._item, item), np.append(self._alpha, alpha)
        self._value, self._slope = (
            np.append(one, new) for one, new in zip((self._value, self._slope), told, strict=True)
        )
        self._gradient = torch.cat([self._gradient, gradient])

    def select(self, kept: NDArray[np.bool_]) -> None:
        """Drops the items that are not kept; the others are numbered anew."""
        nodes = kept[self._item]
        self._item = (np.cumsum(kept) - 1)[self._item[nodes]]
        self._alpha, self._value, self._slope = (
            one[nodes] for one in (self._alpha, self._value, self._slope)
        )
        self._gradient = self._gradient[torch.from_numpy(nodes).to(self._gradient.device)]
        self._context = self._context[torch.from_numpy(kept).to(self._context.device)]

    def sizes(self) -> NDArray[np.int64]:
        """Nodes of each item."""
        return np.bincount(self._item, minlength=len(self._context))

    def estimate(self) -> Estimate:
        """What the nodes say of the integral of each item."""
        told = [
            (self._value[nodes[0]], np.abs(np.cumsum(errors)).max(), np.abs(rises).max())
            for nodes, errors, rises in self._intervals()
        ]
        numbers = torch.tensor(told, dtype=torch.float64, device=self._context.device)
        return Estimate(self.integral(), *numbers.T)

    def integral(self, stencil: int = STENCIL) -> Float[Tensor, "item reach width"]:
        """The integral of dF/dctx of each item, by polynomials through so many nodes."""
        weights = np.empty(len(self._item))
        for nodes, _, _ in self._intervals():
            weights[nodes] = interval_weights(tuple(self._alpha[nodes]), stencil).sum(0)
        weighted = self._gradient * torch.from_numpy(weights).to(self._gradient)[:, None, None]
        item = torch.from_numpy(self._item).to(weighted.device)
        return torch.zeros_like(self._context).index_add_(0, item, weighted)

    def wanted(self, asked: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The nodes to compute next: the middles of intervals whose own error is too large.

        Args:
            asked: Path error asked of each item.

        Returns:
            Item and alpha of each node. An item that has room for fewer gets those of the largest errors.
        """
        items, alphas = [], []
        for number, (nodes, errors, _) in enumerate(self._intervals()):
            x, off = self._alpha[nodes], np.abs(errors)
            worst = np.argsort(-off)[: MOST_NODES - len(x)]
            # Where each interval does well and the item does not, the worst interval is refined.
            chosen = worst[(off[worst] > SHARE * asked[number]) | (worst == off.argmax())]
            items.append(np.full(len(chosen), number))
            alphas.append((x[chosen] + x[chosen + 1]) / 2)
        return np.concatenate(items), np.concatenate(alphas)

    def _intervals(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
        """For each item: places of its nodes in rising order, errors of its intervals, F(alpha) - F(0)."""
        order = np.lexsort((self._alpha, self._item))
        for nodes in np.split(order, np.cumsum(self.sizes())[:-1]):
            weights = interval_weights(tuple(self._alpha[nodes]))
            rises = self._value[nodes] - self._value[nodes[0]]
            yield nodes, weights @ self._slope[nodes] - np.diff(rises), rises
