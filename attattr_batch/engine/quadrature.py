"""Quadrature rules on [0, 1]: pure functions of their size, independent of any model.

The attribution integral runs over alpha, the scale of a layer's attention (paper, equation 3). A rule is a
set of alphas with weights. The rule is part of a run's identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

NESTED_SIZES = (2, 3, 5, 9)
"""Sizes of the rules that `nested` makes."""

STENCIL = 7
"""Nodes through which `interval_weights` lays a polynomial."""


@dataclass(frozen=True, eq=False)
class Rule:
    """Nodes in [0, 1] and their weights: the integral of g is close to sum(weights * g(nodes))."""

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def partial(self) -> NDArray[np.float64]:
        """Weights of the integrals from 0 to each node; see `partial_weights`."""
        return partial_weights(self.nodes)


def left_riemann(n: int) -> Rule:
    """Nodes k / n for k = 0 .. n - 1: the rule of the authors' released code."""
    return Rule(np.arange(n) / n, np.full(n, 1 / n))


def right_riemann(n: int) -> Rule:
    """Nodes k / n for k = 1 .. n: the sum as the paper prints it (equation 4)."""
    return Rule(np.arange(1, n + 1) / n, np.full(n, 1 / n))


def gauss_legendre(n: int) -> Rule:
    """The n-point Gauss rule: exact for polynomials of degree 2 n - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return Rule((nodes + 1) / 2, weights / 2)


@cache
def nested(n: int) -> Rule:
    """The rules that the adaptive integral tries in turn; each has nodes at 0 and at 1.

    With 2, 3 and 5 nodes they are Gauss-Lobatto rules. The one with 9 extends these in the manner of Kronrod
    (Patterson, Math. Comp. 22, 1968), so that every node is used again, and is exact for polynomials of
    degree 13.

    Args:
        n: One of `NESTED_SIZES`.
    """
    nodes = np.array([-1.0, 1.0])
    while len(nodes) < n:
        nodes = _extended(nodes)
    values = np.polynomial.legendre.legvander(nodes, n - 1)
    integrals = np.eye(n)[0]  # means over [-1, 1] of the Legendre polynomials
    return Rule((nodes + 1) / 2, np.linalg.solve(values.T, integrals))


def _extended(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds n - 1 nodes to n nodes in [-1, 1] so that the rule is exact to the highest degree.

    The new nodes are the roots of the polynomial of degree n - 1 that is orthogonal to every polynomial of
    lower degree, weighted by the product of (x - node).
    """
    legendre, added = np.polynomial.legendre, len(nodes) - 1
    points, weights = legendre.leggauss(2 * len(nodes))
    signed = weights * legendre.legval(points, legendre.legfromroots(nodes))
    basis = legendre.legvander(points, added)
    products = (basis[:, :added] * signed[:, None]).T @ basis
    lower = np.linalg.solve(products[:, :added], -products[:, added])
    roots = np.sort(legendre.legroots(np.append(lower, 1.0)).real)  # of type complex from NumPy 2.5 on
    return np.sort(np.concatenate([nodes, (roots - roots[::-1]) / 2]))


def partial_weights(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the integrals from 0 to each node, which integrate the interpolating polynomial.

    Args:
        nodes: n distinct nodes in [0, 1].

    Returns:
        Matrix [n, n]: row k times the values at the nodes is the integral from 0 to node k.
    """
    chebyshev = np.polynomial.chebyshev
    x = 2 * nodes - 1
    antiderivatives = chebyshev.chebint(np.eye(len(nodes)), lbnd=-1, axis=0)
    # Rows of `values @ coefficients`: Chebyshev coefficients of the interpolant, integrated, evaluated.
    integrated = chebyshev.chebvander(x, len(nodes)) @ antiderivatives / 2
    weights: NDArray[np.float64] = integrated @ np.linalg.inv(chebyshev.chebvander(x, len(nodes) - 1))
    return weights


@lru_cache(maxsize=4096)
def interval_weights(nodes: tuple[float, ...], stencil: int = STENCIL) -> NDArray[np.float64]:
    """Weights of the integrals from each node to the next, which follow what changes near them alone.

    Args:
        nodes: n >= 2 rising nodes; they may lie close in one place and far apart in another.
        stencil: Nodes of each polynomial.

    Returns:
        Matrix [n - 1, n]: row k times the values at the nodes is the integral from node k to node k + 1 of
        the polynomial through the `stencil` nodes around them.
    """
    x, legendre = np.array(nodes), np.polynomial.legendre
    size = min(stencil, len(x))
    first = np.clip(np.arange(len(x) - 1) - (size - 2) // 2, 0, len(x) - size)
    places = first[:, None] + np.arange(size)
    middle, half = (x[places[:, -1:]] + x[places[:, :1]]) / 2, (x[places[:, -1:]] - x[places[:, :1]]) / 2
    values = legendre.legvander((x[places] - middle) / half, size - 1)
    ends = (np.stack([x[:-1], x[1:]], 1) - middle) / half
    antiderivatives = legendre.legvander(ends, size) @ legendre.legint(np.eye(size), axis=0)
    integrals = np.diff(antiderivatives, axis=1)[:, 0] * half
    weights = np.zeros((len(x) - 1, len(x)))
    local = np.linalg.solve(values.transpose(0, 2, 1), integrals[..., None])[..., 0]
    np.put_along_axis(weights, places, local, axis=1)
    return weights


_RULES: dict[str, Callable[[int], Rule]] = {
    "left-riemann": left_riemann,
    "right-riemann": right_riemann,
    "gauss-legendre": gauss_legendre,
}


def fixed_rule(name: str, n: int) -> Rule:
    """Returns the fixed rule called `name` with n nodes."""
    return _RULES[name](n)
