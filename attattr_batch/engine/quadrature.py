"""Quadrature rules on [0, 1]: pure functions of their size, independent of any model.

The attribution integral runs over alpha, the scale of a layer's attention (paper, equation 3). A rule is a
set of alphas with weights. The rule is part of a run's identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

NESTED_SIZES = (2, 3, 5, 9, 17, 33, 65, 129)
"""Sizes of the rules that `nested` makes."""

_LAST_EXTENSION = 17


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


def clenshaw_curtis(n: int) -> Rule:
    """The n >= 2 Chebyshev extrema, both ends included: exact for polynomials of degree n - 1.

    The nodes of the rule with n = 2^k + 1 are among those with n = 2^(k+1) + 1.
    """
    intervals = n - 1
    theta = np.pi * np.arange(n) / intervals
    weights = np.ones(n)
    for k in range(1, intervals // 2 + 1):
        factor = 1.0 if 2 * k == intervals else 2.0
        weights -= factor * np.cos(2 * k * theta) / (4 * k * k - 1)
    weights /= intervals
    weights[[0, -1]] /= 2
    return Rule((1 - np.cos(theta)) / 2, weights)


@cache
def nested(n: int) -> Rule:
    """The rules that the adaptive integral tries in turn; each has nodes at 0 and at 1.

    With 2, 3 and 5 nodes they are Gauss-Lobatto rules. With 9 and 17 they extend these in the manner of
    Kronrod and Patterson (Math. Comp. 22, 1968), so that every node is used again, and are exact for
    polynomials of degree 13 and 25. The next extension would have complex nodes, so from 33 nodes on they are
    Clenshaw-Curtis rules: nested in one another, and sharing both ends and the middle with the smaller rules.

    Args:
        n: One of `NESTED_SIZES`.
    """
    if n > _LAST_EXTENSION:
        return clenshaw_curtis(n)
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
    roots = np.sort(legendre.legroots(np.append(lower, 1.0)))
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


_RULES: dict[str, Callable[[int], Rule]] = {
    "left-riemann": left_riemann,
    "right-riemann": right_riemann,
    "gauss-legendre": gauss_legendre,
}


def fixed_rule(name: str, n: int) -> Rule:
    """Returns the fixed rule called `name` with n nodes."""
    return _RULES[name](n)
