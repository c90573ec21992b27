"""Integration where F is steep: nodes of its own for every item, refined where F shows an error.

Where the nested rules end without success, F jumps somewhere in [0, 1] and is smooth elsewhere. From there on
dF/dctx is integrated from each node to the next by the polynomial through the nodes nearby. Because F is
known at every node, so is the error of each of these integrals; and only where it is too large the interval
gets a node in its middle. No node is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from attattr_batch.engine.quadrature import STENCIL, interval_weights

MOST_NODES = 61
"""Nodes of an item at most; all but the one at alpha = 1 are replays."""

SHARE = 0.9
"""Error of one interval, as a share of the path error asked for, above which it gets another node."""

Floats = NDArray[np.float64]


class Mesh:
    """Where each item has its nodes, and what is known of F there.

    The nodes of all items stand in one list, in the order in which they came, so that those of a round are
    replayed in one batch.
    """

    def __init__(self, alphas: Floats, values: Floats, slopes: Floats):
        """Starts with nodes that all items share.

        Args:
            alphas: Where they are [node].
            values: F there [node, item].
            slopes: dF/dalpha there [node, item].
        """
        n_nodes, self.n_items = values.shape
        self.item = np.tile(np.arange(self.n_items), n_nodes)
        self._alpha = np.repeat(alphas, self.n_items)
        self._value, self._slope = values.flatten(), slopes.flatten()
        self._sort()

    def add(self, item: NDArray[np.int64], alphas: Floats) -> None:
        """Enters new nodes, each of the item of that number; `learn` says what F is there."""
        self.item, self._alpha = np.append(self.item, item), np.append(self._alpha, alphas)
        self._sort()

    def learn(self, values: Floats, slopes: Floats) -> None:
        """Enters F and dF/dalpha at the nodes that were added last."""
        self._value, self._slope = np.append(self._value, values), np.append(self._slope, slopes)

    def select(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drops the items that are not kept, and numbers the others anew; returns the nodes that stay."""
        nodes = np.flatnonzero(kept[self.item])
        self.n_items = int(kept.sum())
        self.item = (np.cumsum(kept) - 1)[self.item[nodes]]
        self._alpha, self._value, self._slope = (
            one[nodes] for one in (self._alpha, self._value, self._slope)
        )
        self._sort()
        return nodes

    def sizes(self) -> NDArray[np.int64]:
        """Nodes of each item."""
        return np.bincount(self.item, minlength=self.n_items)

    def path(self) -> tuple[Floats, Floats, Floats]:
        """What the nodes say of each item: F(0), its path error, and the largest |F(alpha) - F(0)|."""
        said = [
            (self._value[nodes[0]], np.abs(np.cumsum(errors)).max(), np.abs(rises).max())
            for nodes, errors, rises in self._intervals()
        ]
        f_zero, path_error, rise = np.array(said).reshape(-1, 3).T
        return f_zero, path_error, rise

    def weights(self, stencils: Sequence[int]) -> Floats:
        """Weights of the integrals of every item, by polynomials through so many nodes.

        Returns:
            Matrix [stencil * item, node]; its products with dF/dctx at the nodes are the integrals, those by
            the first stencil first.
        """
        weights = np.zeros((len(stencils), self.n_items, len(self.item)))
        for of_items, stencil in zip(weights, stencils, strict=True):
            for of_nodes, nodes in zip(of_items, self._nodes, strict=True):
                of_nodes[nodes] = interval_weights(tuple(self._alpha[nodes]), stencil).sum(0)
        return weights.reshape(-1, len(self.item))

    def wanted(self, asked: Floats) -> tuple[NDArray[np.int64], Floats]:
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

    def _sort(self) -> None:
        """Finds the places of each item's nodes in rising order."""
        order = np.lexsort((self._alpha, self.item))
        self._nodes = np.split(order, np.cumsum(self.sizes())[:-1])

    def _intervals(self) -> Iterator[tuple[NDArray[np.int64], Floats, Floats]]:
        """For each item: places of its nodes in rising order, errors of its intervals, F(alpha) - F(0)."""
        for nodes in self._nodes:
            weights = interval_weights(tuple(self._alpha[nodes]), STENCIL)
            rises = self._value[nodes] - self._value[nodes[0]]
            yield nodes, weights @ self._slope[nodes] - np.diff(rises), rises
