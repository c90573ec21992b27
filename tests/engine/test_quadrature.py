"""Quadrature rules against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attattr_batch.engine.attribution import COARSEST, LEVELS
from attattr_batch.engine.quadrature import Rule, clenshaw_curtis, fixed_rule, gauss_legendre, partial_weights
from attattr_batch.errors import UserError

NAMES = ("left-riemann", "right-riemann", "midpoint", "trapezoid", "gauss-legendre", "clenshaw-curtis")


def power_integral(rule: Rule, degree: int) -> float:
    return float(rule.weights @ rule.nodes**degree)


@given(st.integers(1, 24), st.data())
def test_gauss_legendre_is_exact_to_degree_2n_minus_1(n: int, data: st.DataObject) -> None:
    degree = data.draw(st.integers(0, 2 * n - 1))
    assert power_integral(gauss_legendre(n), degree) == pytest.approx(1 / (degree + 1), rel=1e-12)


@pytest.mark.parametrize("n", range(1, 7))
def test_gauss_legendre_is_not_exact_beyond(n: int) -> None:
    assert abs(power_integral(gauss_legendre(n), 2 * n) - 1 / (2 * n + 1)) > 1e-8


@given(st.integers(2, 129), st.data())
def test_clenshaw_curtis_is_exact_to_degree_n_minus_1(n: int, data: st.DataObject) -> None:
    degree = data.draw(st.integers(0, n - 1))
    assert power_integral(clenshaw_curtis(n), degree) == pytest.approx(1 / (degree + 1), rel=1e-12)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_clenshaw_curtis_is_not_exact_beyond(n: int) -> None:
    # An odd rule is symmetric, so degree n, odd about the middle, still comes out exactly.
    assert abs(power_integral(clenshaw_curtis(n), n + 1) - 1 / (n + 2)) > 1e-8


def test_the_adaptive_rules_are_nested() -> None:
    finest = clenshaw_curtis(LEVELS[-1]).nodes
    for size in (COARSEST, *LEVELS):
        stride = (LEVELS[-1] - 1) // (size - 1)
        np.testing.assert_allclose(clenshaw_curtis(size).nodes, finest[::stride], atol=1e-15)
    assert finest[0] == 0.0
    assert finest[-1] == 1.0


@pytest.mark.parametrize(
    ("name", "nodes", "weights"),
    [
        ("left-riemann", [0, 0.25, 0.5, 0.75], [0.25] * 4),
        ("right-riemann", [0.25, 0.5, 0.75, 1], [0.25] * 4),
        ("midpoint", [0.125, 0.375, 0.625, 0.875], [0.25] * 4),
        ("trapezoid", [0, 1 / 3, 2 / 3, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        ("clenshaw-curtis", [0, 0.25, 0.75, 1], [1 / 18, 4 / 9, 4 / 9, 1 / 18]),
    ],
)
def test_rules_of_four_nodes_by_hand(name: str, nodes: list[float], weights: list[float]) -> None:
    rule = fixed_rule(name, 4)
    np.testing.assert_allclose(rule.nodes, nodes, atol=1e-15)
    np.testing.assert_allclose(rule.weights, weights, atol=1e-15)
    assert len(rule) == 4


def test_gauss_legendre_of_two_nodes_by_hand() -> None:
    rule = gauss_legendre(2)
    np.testing.assert_allclose(rule.nodes, 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3), atol=1e-15)
    np.testing.assert_allclose(rule.weights, [0.5, 0.5], atol=1e-15)


@given(st.sampled_from(NAMES), st.integers(2, 200))
def test_every_rule_lies_in_the_unit_interval_and_weighs_one(name: str, n: int) -> None:
    rule = fixed_rule(name, n)
    assert len(rule.nodes) == len(rule.weights) == n
    assert rule.weights.sum() == pytest.approx(1, rel=1e-12)
    assert (rule.weights > 0).all()
    assert rule.nodes.min() >= 0
    assert rule.nodes.max() <= 1
    assert (np.diff(rule.nodes) > 0).all()


@pytest.mark.parametrize("size", (COARSEST, *LEVELS))
def test_partial_weights_integrate_polynomials_to_every_node(size: int) -> None:
    nodes = clenshaw_curtis(size).nodes
    weights = partial_weights(nodes)
    for degree in sorted({0, 1, 2, size // 2, size - 1}):
        np.testing.assert_allclose(weights @ nodes**degree, nodes ** (degree + 1) / (degree + 1), atol=1e-12)


@pytest.mark.parametrize("size", (COARSEST, *LEVELS))
def test_partial_weights_end_in_the_whole_rule(size: int) -> None:
    rule = clenshaw_curtis(size)
    weights = partial_weights(rule.nodes)
    np.testing.assert_allclose(weights[0], 0, atol=1e-13)
    np.testing.assert_allclose(weights[-1], rule.weights, atol=1e-12)


def test_partial_weights_of_two_nodes_by_hand() -> None:
    expected = np.array([[0, 0], [0.5, 0.5]])
    np.testing.assert_allclose(partial_weights(np.array([0.0, 1.0])), expected, atol=1e-15)


def test_partial_weights_of_three_nodes_by_hand() -> None:
    expected = np.array([[0, 0, 0], [5 / 24, 1 / 3, -1 / 24], [1 / 6, 2 / 3, 1 / 6]])
    np.testing.assert_allclose(partial_weights(np.array([0.0, 0.5, 1.0])), expected, atol=1e-14)


def test_an_unknown_rule_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'gauss-legendre'") as caught:
        fixed_rule("gauss-legandre", 4)
    for name in NAMES:
        assert name in str(caught.value)
