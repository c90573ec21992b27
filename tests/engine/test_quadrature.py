"""Quadrature rules against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attattr_batch.engine.quadrature import (
    NESTED_SIZES,
    STENCIL,
    Rule,
    fixed_rule,
    gauss_legendre,
    interval_weights,
    nested,
    partial_weights,
)

NAMES = ("left-riemann", "right-riemann", "gauss-legendre")
NESTED_DEGREES = {2: 1, 3: 3, 5: 7, 9: 13}
"""Degree to which each rule of the adaptive integral is exact (odd, as the rules are symmetric)."""


def power_integral(rule: Rule, degree: int) -> float:
    return float(rule.weights @ rule.nodes**degree)


@given(st.integers(1, 24), st.data())
def test_gauss_legendre_is_exact_to_degree_2n_minus_1(n: int, data: st.DataObject) -> None:
    degree = data.draw(st.integers(0, 2 * n - 1))
    assert power_integral(gauss_legendre(n), degree) == pytest.approx(1 / (degree + 1), rel=1e-12)


@pytest.mark.parametrize("n", range(1, 7))
def test_gauss_legendre_is_not_exact_beyond(n: int) -> None:
    assert abs(power_integral(gauss_legendre(n), 2 * n) - 1 / (2 * n + 1)) > 1e-8


@pytest.mark.parametrize(("size", "degree"), NESTED_DEGREES.items())
def test_the_adaptive_rules_are_exact_to_their_degree(size: int, degree: int) -> None:
    rule = nested(size)
    for lower in range(degree + 1):
        assert power_integral(rule, lower) == pytest.approx(1 / (lower + 1), rel=1e-11)
    assert len(rule) == size
    assert (rule.weights > 0).all()
    assert (np.diff(rule.nodes) > 0).all()


@pytest.mark.parametrize("size", [2, 3, 5, 9])
def test_the_extended_rules_are_not_exact_beyond(size: int) -> None:
    rule, degree = nested(size), NESTED_DEGREES[size] + 1
    assert abs(float(rule.weights @ (2 * rule.nodes - 1) ** degree) - 1 / (degree + 1)) > 1e-10


def test_nodes_are_real_where_numpy_gives_roots_as_complex_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NumPy does from 2.5 on."""
    legroots = np.polynomial.legendre.legroots
    monkeypatch.setattr(np.polynomial.legendre, "legroots", lambda series: legroots(series).astype(complex))
    assert nested.__wrapped__(9).nodes.dtype == np.float64


def test_the_adaptive_rules_are_nested() -> None:
    assert tuple(NESTED_DEGREES) == NESTED_SIZES
    nodes = {size: set(nested(size).nodes.tolist()) for size in NESTED_SIZES}
    assert nodes[2] < nodes[3] < nodes[5] < nodes[9]
    assert all({0.0, 1.0} <= found for found in nodes.values())


@pytest.mark.parametrize(
    ("size", "nodes", "weights"),
    [
        (2, [0, 1], [1 / 2, 1 / 2]),
        (3, [0, 0.5, 1], [1 / 6, 2 / 3, 1 / 6]),
        (
            5,
            [0, 0.5 - (3 / 28) ** 0.5, 0.5, 0.5 + (3 / 28) ** 0.5, 1],
            [1 / 20, 49 / 180, 16 / 45, 49 / 180, 1 / 20],
        ),
    ],
)
def test_the_smallest_adaptive_rules_are_those_of_lobatto(
    size: int, nodes: list[float], weights: list[float]
) -> None:
    np.testing.assert_allclose(nested(size).nodes, nodes, atol=1e-15)
    np.testing.assert_allclose(nested(size).weights, weights, atol=1e-15)


@pytest.mark.parametrize(
    ("rule", "nodes", "weights"),
    [
        (fixed_rule("left-riemann", 4), [0, 0.25, 0.5, 0.75], [0.25] * 4),
        (fixed_rule("right-riemann", 4), [0.25, 0.5, 0.75, 1], [0.25] * 4),
    ],
    ids=["left-riemann", "right-riemann"],
)
def test_rules_of_four_nodes_by_hand(rule: Rule, nodes: list[float], weights: list[float]) -> None:
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


@pytest.mark.parametrize("size", NESTED_SIZES)
def test_partial_weights_integrate_polynomials_to_every_node(size: int) -> None:
    nodes = nested(size).nodes
    weights = partial_weights(nodes)
    for degree in sorted({0, 1, size // 2, size - 1}):
        np.testing.assert_allclose(weights @ nodes**degree, nodes ** (degree + 1) / (degree + 1), atol=1e-12)


@pytest.mark.parametrize("size", NESTED_SIZES)
def test_partial_weights_end_in_the_whole_rule(size: int) -> None:
    rule = nested(size)
    weights = partial_weights(rule.nodes)
    np.testing.assert_allclose(weights[0], 0, atol=1e-13)
    np.testing.assert_allclose(weights[-1], rule.weights, atol=1e-12)


def test_partial_weights_of_two_nodes_by_hand() -> None:
    expected = np.array([[0, 0], [0.5, 0.5]])
    np.testing.assert_allclose(partial_weights(np.array([0.0, 1.0])), expected, atol=1e-15)


def test_partial_weights_of_three_nodes_by_hand() -> None:
    expected = np.array([[0, 0, 0], [5 / 24, 1 / 3, -1 / 24], [1 / 6, 2 / 3, 1 / 6]])
    np.testing.assert_allclose(partial_weights(np.array([0.0, 0.5, 1.0])), expected, atol=1e-14)


RISING = st.lists(st.integers(0, 2**12), min_size=2, max_size=40, unique=True).map(
    lambda found: tuple(n / 2**12 for n in sorted(found))
)


@given(RISING)
def test_interval_weights_are_exact_to_the_degree_of_their_polynomials(nodes: tuple[float, ...]) -> None:
    x, weights = np.array(nodes), interval_weights(nodes)
    assert weights.shape == (len(x) - 1, len(x))
    for degree in range(min(STENCIL, len(x))):
        found, exact = weights @ x**degree, np.diff(x ** (degree + 1)) / (degree + 1)
        assert np.abs(found - exact).max() <= 1e-8 * np.abs(weights).max()


def test_interval_weights_look_at_what_is_near_alone() -> None:
    nodes = tuple(np.linspace(0, 1, 21).tolist())
    weights = interval_weights(nodes)
    assert (np.count_nonzero(weights, axis=1) == STENCIL).all()
    for interval, row in enumerate(weights):
        assert np.abs(np.flatnonzero(row) - interval - 0.5).max() <= max(
            STENCIL / 2, STENCIL - 1.5 - min(interval, 19 - interval)
        )


def test_interval_weights_of_few_nodes_make_the_whole_rule() -> None:
    rule = nested(5)
    np.testing.assert_allclose(interval_weights(tuple(rule.nodes.tolist())).sum(0), rule.weights, atol=1e-14)
