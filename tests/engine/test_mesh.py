"""Meshes of steep integrands, on functions that are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attattr_batch.engine.mesh import MOST_NODES, SHARE, Mesh
from attattr_batch.engine.path import Nodes
from attattr_batch.engine.quadrature import nested

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ASKED = 5e-4


def logistic(place: float, steepness: float) -> tuple[Curve, Curve]:
    """A step in [0, 1], and its slope."""

    def value(alpha: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1 + np.tanh(steepness / 2 * (alpha - place))) / 2

    return value, lambda alpha: steepness * value(alpha) * (1 - value(alpha))


def mesh_of(curves: list[tuple[Curve, Curve]]) -> Mesh:
    """Each item has one token and a context of width 2, (1, 1): slopes are sums of the gradient."""
    alphas = nested(9).nodes
    value = torch.from_numpy(np.stack([f(alphas) for f, _ in curves], 1))
    return Mesh(alphas, Nodes(value, gradient_of(curves, alphas)), torch.ones(len(curves), 1, 2))


def gradient_of(curves: list[tuple[Curve, Curve]], alphas: NDArray[np.float64]) -> torch.Tensor:
    """The slope, of which the first entry has the share alpha and the second the rest."""
    slopes = np.stack([slope(alphas) for _, slope in curves], 1)
    parts = np.stack([alphas[:, None] * slopes, (1 - alphas[:, None]) * slopes], -1)
    return torch.from_numpy(parts[:, :, None]).float()


def refine(mesh: Mesh, curves: list[tuple[Curve, Curve]], asked: float = ASKED) -> None:
    """One round for all items."""
    item, alpha = mesh.wanted(np.full(len(curves), asked))
    value = np.concatenate([curves[i][0](alpha[k : k + 1]) for k, i in enumerate(item)])
    parts = [gradient_of([curves[i]], alpha[k : k + 1])[0] for k, i in enumerate(item)]
    mesh.add(item, alpha, torch.from_numpy(value), torch.cat(parts))


STEPS = [logistic(0.3, 40), logistic(0.77, 150), logistic(0.5, 8), logistic(0.02, 400)]


def test_steps_are_integrated_with_few_nodes() -> None:
    mesh = mesh_of(STEPS)
    while (errors := mesh.estimate().path_error).max() > ASKED:
        before = mesh.sizes()
        refine(mesh, STEPS)
        assert (mesh.sizes() > before).all()
    estimate = mesh.estimate()
    assert mesh.sizes().max() <= 45
    for item, (value, _) in enumerate(STEPS):
        ends = value(np.array([0.0, 1.0]))
        total = float(estimate.gradient[item].sum())
        assert total == pytest.approx(ends[1] - ends[0], abs=float(errors[item]) + 1e-6)
        assert float(estimate.f_zero[item]) == ends[0]
        assert float(estimate.rise[item]) == pytest.approx(ends[1] - ends[0])


def test_the_parts_of_a_gradient_are_integrated_and_not_the_sum_alone() -> None:
    """Of the first entry, alpha times the slope, the integral is F(1) - the integral of F."""
    mesh = mesh_of(STEPS[:1])
    for _ in range(5):
        refine(mesh, STEPS[:1], 1e-6)
    alpha = np.linspace(0, 1, 200_001)
    value = STEPS[0][0](alpha)
    exact = value[-1] - np.trapezoid(value, alpha)
    assert float(mesh.estimate().gradient[0, 0, 0]) == pytest.approx(exact, abs=1e-5)


def test_nodes_go_where_the_step_is() -> None:
    curves = [logistic(0.77, 150)]
    mesh = mesh_of(curves)
    for _ in range(3):
        refine(mesh, curves)
    new = np.sort(mesh._alpha)[~np.isin(np.sort(mesh._alpha), nested(9).nodes)]
    assert np.mean(np.abs(new - 0.77) < 0.2) > 0.8


def test_the_path_error_is_that_of_the_running_integral() -> None:
    mesh = mesh_of(STEPS)
    estimate = mesh.estimate()
    for item, (value, slope) in enumerate(STEPS):
        nodes = nested(9).nodes
        running = [0.0]
        for left in range(len(nodes) - 1):
            start = min(max(left - 2, 0), len(nodes) - 7)
            near = nodes[start : start + 7]
            fit = np.polynomial.Polynomial.fit(near, slope(near), 6).integ()
            running.append(running[-1] + fit(nodes[left + 1]) - fit(nodes[left]))
        rises = value(nodes) - value(nodes[:1])
        assert float(estimate.path_error[item]) == pytest.approx(np.abs(running - rises).max(), rel=1e-4)


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
    before = mesh.estimate()
    mesh.select(np.array([False, True, False, True]))
    after = mesh.estimate()
    torch.testing.assert_close(after.gradient, before.gradient[[1, 3]])
    torch.testing.assert_close(after.path_error, before.path_error[[1, 3]])
    assert len(mesh.sizes()) == 2


def test_what_cannot_be_resolved_ends_with_as_many_nodes_as_there_may_be() -> None:
    curves = [logistic(0.3, 1e6)]
    mesh = mesh_of(curves)
    while mesh.sizes()[0] < MOST_NODES:
        refine(mesh, curves, 1e-12)
    assert mesh.sizes()[0] == MOST_NODES
    assert float(mesh.estimate().path_error[0]) > 1e-3
