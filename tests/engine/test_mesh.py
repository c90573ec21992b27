"""Meshes of steep integrands, on functions that are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from attattr_batch.engine.mesh import MOST_NODES, SHARE, Mesh
from attattr_batch.engine.quadrature import nested

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ASKED = 5e-4


def logistic(place: float, steepness: float) -> tuple[Curve, Curve]:
    """A step in [0, 1], and its slope."""

    def value(alpha: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1 + np.tanh(steepness / 2 * (alpha - place))) / 2

    return value, lambda alpha: steepness * value(alpha) * (1 - value(alpha))


def mesh_of(curves: list[tuple[Curve, Curve]]) -> Mesh:
    """The nested rule's nodes, of all items."""
    alphas = nested(9).nodes
    value, slope = (np.stack([one[part](alphas) for one in curves], 1) for part in (0, 1))
    return Mesh(alphas, value, slope)


def refine(mesh: Mesh, curves: list[tuple[Curve, Curve]], asked: float = ASKED) -> None:
    """One round for all items."""
    item, alpha = mesh.wanted(np.full(len(curves), asked))
    mesh.add(item, alpha)
    value, slope = (
        np.array([curves[i][part](alpha[k : k + 1])[0] for k, i in enumerate(item)]) for part in (0, 1)
    )
    mesh.learn(value, slope)


STEPS = [logistic(0.3, 40), logistic(0.77, 150), logistic(0.5, 8), logistic(0.02, 400)]


def test_steps_are_integrated_with_few_nodes() -> None:
    mesh = mesh_of(STEPS)
    while mesh.path()[1].max() > ASKED:
        before = mesh.sizes()
        refine(mesh, STEPS)
        assert (mesh.sizes() > before).all()
    f_zero, errors, rise = mesh.path()
    integrals = mesh.weights([7]) @ mesh._slope
    assert mesh.sizes().max() <= 45
    for item, (value, _) in enumerate(STEPS):
        ends = value(np.array([0.0, 1.0]))
        assert integrals[item] == pytest.approx(ends[1] - ends[0], abs=errors[item] + 1e-9)
        assert f_zero[item] == ends[0]
        assert rise[item] == pytest.approx(ends[1] - ends[0])


def test_the_parts_of_a_gradient_are_integrated_and_not_the_sum_alone() -> None:
    """Of the first entry, alpha times the slope, the integral is F(1) - the integral of F."""
    mesh = mesh_of(STEPS[:1])
    for _ in range(5):
        refine(mesh, STEPS[:1], 1e-6)
    alpha = np.linspace(0, 1, 200_001)
    value = STEPS[0][0](alpha)
    exact = value[-1] - np.trapezoid(value, alpha)
    (integral,) = mesh.weights([7]) @ (mesh._alpha * mesh._slope)
    assert integral == pytest.approx(exact, abs=1e-5)


def test_nodes_go_where_the_step_is() -> None:
    curves = [logistic(0.77, 150)]
    mesh = mesh_of(curves)
    for _ in range(3):
        refine(mesh, curves)
    new = np.sort(mesh._alpha)[~np.isin(np.sort(mesh._alpha), nested(9).nodes)]
    assert np.mean(np.abs(new - 0.77) < 0.2) > 0.8


def test_the_path_error_is_that_of_the_running_integral() -> None:
    mesh = mesh_of(STEPS)
    _, path_error, _ = mesh.path()
    for item, (value, slope) in enumerate(STEPS):
        nodes = nested(9).nodes
        running = [0.0]
        for left in range(len(nodes) - 1):
            start = min(max(left - 2, 0), len(nodes) - 7)
            near = nodes[start : start + 7]
            fit = np.polynomial.Polynomial.fit(near, slope(near), 6).integ()
            running.append(running[-1] + fit(nodes[left + 1]) - fit(nodes[left]))
        rises = value(nodes) - value(nodes[:1])
        assert path_error[item] == pytest.approx(np.abs(running - rises).max(), rel=1e-4)


def test_an_interval_within_its_share_gets_no_node_and_the_worst_always_does() -> None:
    mesh = mesh_of(STEPS[:1])
    off = np.concatenate([np.abs(errors) for _, errors, _ in mesh._intervals()])
    limit = float(np.sort(off)[-3])
    _, alphas = mesh.wanted(np.array([limit / SHARE * 1.0001]))
    assert len(alphas) == 2
    _, alphas = mesh.wanted(np.array([1.0]))
    nodes, worst = nested(9).nodes, int(off.argmax())
    assert alphas.tolist() == [(nodes[worst] + nodes[worst + 1]) / 2]


def test_items_that_leave_take_their_nodes_along() -> None:
    mesh = mesh_of(STEPS)
    refine(mesh, STEPS)
    before, slopes = mesh.path(), mesh._slope
    integrals = mesh.weights([7, 5]) @ slopes
    nodes = mesh.select(np.array([False, True, False, True]))
    for one, other in zip(mesh.path(), before, strict=True):
        np.testing.assert_allclose(one, other[[1, 3]])
    np.testing.assert_allclose(mesh.weights([7, 5]) @ slopes[nodes], integrals[[1, 3, 5, 7]])
    assert len(mesh.sizes()) == 2


def test_what_cannot_be_resolved_ends_with_as_many_nodes_as_there_may_be() -> None:
    curves = [logistic(0.3, 1e6)]
    mesh = mesh_of(curves)
    while mesh.sizes()[0] < MOST_NODES:
        refine(mesh, curves, 1e-12)
    assert mesh.sizes()[0] == MOST_NODES
    assert mesh.path()[1][0] > 1e-3
