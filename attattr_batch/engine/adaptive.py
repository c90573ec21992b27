"""The adaptive integral: larger and larger rules, then finer and finer meshes, until each item is certified.

Several layers are integrated side by side. Each round computes on the device what every layer needs next, and
copies the few numbers by which it is judged to the host, those of all layers at once. So the host seldom
waits for the device, and the device hardly ever for the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.layer import Certificate, Integrand
from attattr_batch.engine.mesh import MOST_NODES, Floats, Mesh
from attattr_batch.engine.precision import Attempt, attempts
from attattr_batch.engine.quadrature import STENCIL, Rule
from attattr_batch.engine.transfer import to_device, to_host
from attattr_batch.spec import MethodSettings

PATH_SHARE = 0.5
"""Accepted path error as a share of the tolerance; docs/attribution.md has the measurement behind it."""

AGREEMENT = 100.0
"""Largest accepted change of a per-head maximum from the rule before, relative to the layer's largest entry,
for a tolerance of 1: a tenth at the default."""

_COARSER, REFINED_AGREEMENT = 5, 2.0
"""Nodes of the coarser polynomials that judge a mesh, and the largest accepted difference of a per-head
maximum between the two, as `AGREEMENT` says it."""

RISE_SHARE = 50.0
"""Largest accepted path error relative to the largest |F(alpha) - F(0)| of a layer, for a tolerance of 1: a
twentieth at the default, so that a layer is not certified only because it changes F by little."""

_NOISE = 1e-6
"""Scores and errors below this are rounding noise of float32 class scores, as where F is saturated."""


def integrate(layers: Sequence[Integrand], method: MethodSettings) -> list[tuple[Tensor, Certificate]]:
    """Integrates the gradient of every item at each of the layers, to the tolerance of the method.

    Every node is used again by the next rule; the one at 0 gives F(0) and the one at 1 is the clean forward
    pass.

    Returns:
        For each layer the integral of dF/dctx [item, reach, width], and its certificate.
    """
    integrals = [LayerIntegral(layer, method.tolerance) for layer in layers]
    for attempt in attempts(method.dtype, method.tolerance, layers[0].device):
        if not (open_ := [one for one in integrals if len(one.active)]):
            break
        for one, told in zip(open_, _told([one.try_rule(attempt) for one in open_]), strict=True):
            one.judge_rule(told)
    while open_ := [one for one in integrals if len(one.active)]:
        for one, told in zip(open_, _told([one.refine() for one in open_]), strict=True):
            one.judge_mesh(*told)
    return [one.result() for one in integrals]


def _told(of_layers: Sequence[Sequence[Tensor]]) -> list[list[NDArray[Any]]]:
    """Copies the numbers of all layers to the host at once."""
    arrays = iter(to_host([number for of_layer in of_layers for number in of_layer]))
    return [[next(arrays) for _ in of_layer] for of_layer in of_layers]


@dataclass
class _Nodes:
    """Nodes that were replayed together, for all active items.

    Attributes:
        alphas: Where they are.
        gradient: dF/dctx there.
        value: F there.
        slope: dF/dalpha there; both are on the device until the host has been told.
    """

    alphas: Sequence[float]
    gradient: Float[Tensor, "node item reach width"]
    value: Float[Tensor, "node item"] | Floats
    slope: Float[Tensor, "node item"] | Floats

    def select(self, kept: NDArray[np.int64], on_device: Tensor) -> _Nodes:
        """The same nodes for some of the items."""
        return _Nodes(self.alphas, self.gradient[:, on_device], self.value[:, kept], self.slope[:, kept])


class LayerIntegral:
    """The integral of one layer, as far as it has come.

    Attributes:
        active: Indices of the items that are not accepted yet.
    """

    def __init__(self, layer: Integrand, tolerance: float):
        self.active = np.arange(len(layer.items))
        self._layer, self._tolerance = layer, tolerance
        self._active = layer.items.everything  # `active`, on the device
        self._dtype = ""
        value, slope, gradient = layer.at_one_replayed()
        self._nodes = [_Nodes([1.0], gradient[None], value[None], slope[None])]
        self._mesh: Mesh | None = None
        self._asked: Floats = np.empty(0)
        self._estimates = self._gradient = gradient
        self._found: dict[str, NDArray[Any]] = {
            name: np.full(len(self.active), np.nan)
            for name in ("f_zero", "path_error", "agreement_error", "nodes", "certified")
        }

    def try_rule(self, attempt: Attempt) -> list[Tensor]:
        """Computes the nodes of a rule that are still missing; returns what `judge_rule` has to know."""
        if attempt.dtype != self._dtype:  # nodes in another format would not be as exact
            self._dtype = attempt.dtype
            del self._nodes[1:]
        self._add(sorted(set(attempt.rule.nodes.tolist()) - {a for one in self._nodes for a in one.alphas}))
        self._rule = attempt.rule
        self._estimates = self._integrals((attempt.rule, attempt.coarser))
        told = [part for one in self._untold() for part in (one.value, one.slope)]
        return [*told, self._change()]  # type: ignore[list-item]

    def judge_rule(self, told: list[NDArray[Any]]) -> None:
        """Accepts the items that the rule has certified."""
        *numbers, change = told
        for place, one in enumerate(self._untold()):
            one.value, one.slope = numbers[2 * place : 2 * place + 2]
        order = np.argsort([alpha for one in self._nodes for alpha in one.alphas])
        value, slope = (part[order] for part in self._known())
        rises = value - value[0]
        path_error, rise = np.abs(self._rule.partial @ slope - rises).max(0), np.abs(rises).max(0)
        certified = self._certified(path_error, rise, change, AGREEMENT)
        sizes = np.full(len(self.active), len(self._rule))
        self._accept(certified, (value[0], path_error, change, sizes, certified))
        kept = np.flatnonzero(~certified)
        if len(kept) < len(certified):
            on_device = to_device(kept, self._layer.device)
            self._active = self._active[on_device]
            self._nodes = [one.select(kept, on_device) for one in self._nodes] if len(kept) else []

    def refine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gives the active items nodes where they need them; returns what `judge_mesh` has to know."""
        layer = self._layer
        if self._mesh is None:
            alphas = np.array([alpha for one in self._nodes for alpha in one.alphas])
            self._mesh = Mesh(alphas, *self._known())
            self._slopes = torch.cat([one.gradient.flatten(0, 1) for one in self._nodes])
            self._nodes = []
        item, alphas = self._mesh.wanted(self._asked)
        self._mesh.add(item, alphas)
        index = self._active[to_device(item, layer.device)]
        value, slope, gradient = layer.replay(index, to_device(alphas, layer.device), "float32")
        self._slopes = torch.cat([self._slopes, gradient])
        weights = to_device(self._mesh.weights((STENCIL, _COARSER)), layer.device, gradient.dtype)
        integrals = (weights @ self._slopes.flatten(1)).unflatten(1, gradient.shape[1:])
        self._estimates = integrals.unflatten(0, (2, -1))
        return value, slope, self._change()

    def judge_mesh(self, value: Floats, slope: Floats, change: NDArray[Any]) -> None:
        """Accepts the items that their mesh has certified, and those that can have no further nodes."""
        assert self._mesh is not None
        mesh = self._mesh
        mesh.learn(value, slope)
        f_zero, path_error, rise = mesh.path()
        certified = self._certified(path_error, rise, change, REFINED_AGREEMENT)
        # No number of nodes mends what is not a number.
        done = certified | (mesh.sizes() >= MOST_NODES) | ~np.isfinite(path_error)
        self._accept(done, (f_zero, path_error, change, mesh.sizes(), certified))
        if done.any():
            kept = to_device(mesh.select(~done), self._layer.device)
            self._active = self._active[to_device(np.flatnonzero(~done), self._layer.device)]
            self._slopes = self._slopes[kept]

    def result(self) -> tuple[Float[Tensor, "item reach width"], Certificate]:
        """The integral of all items, none of which is active any more, and its certificate."""
        found = to_device(np.stack(list(self._found.values())), self._layer.device)
        f_zero, path_error, agreement_error, nodes, certified = found
        certificate = Certificate(
            f_zero=f_zero,
            path_error=path_error,
            agreement_error=agreement_error,
            nodes=nodes.long(),
            certified=certified.bool(),
        )
        return self._gradient, certificate

    def _add(self, alphas: list[float]) -> None:
        """Replays all active items at some alphas."""
        layer, shape = self._layer, (len(alphas), len(self.active))
        index = self._active.repeat(len(alphas))
        each = to_device(np.repeat(alphas, len(self.active)), layer.device)
        found = layer.replay(index, each, self._dtype)
        value, slope, gradient = (one.unflatten(0, shape) for one in found)
        self._nodes.append(_Nodes(alphas, gradient, value, slope))

    def _known(self) -> tuple[Floats, Floats]:
        """F and dF/dalpha at all nodes, in the order of the nodes."""
        return (
            np.concatenate([one.value for one in self._nodes]),
            np.concatenate([one.slope for one in self._nodes]),
        )

    def _untold(self) -> list[_Nodes]:
        return [one for one in self._nodes if isinstance(one.value, Tensor)]

    def _integrals(self, rules: Sequence[Rule]) -> Float[Tensor, "rule item reach width"]:
        """The integrals of dF/dctx by rules all of whose nodes are there."""
        weights = [dict(zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True)) for rule in rules]
        total: Tensor | None = None
        for one in self._nodes:
            factors = np.array([[of_rule.get(alpha, 0.0) for alpha in one.alphas] for of_rule in weights])
            weight = to_device(factors, self._layer.device, one.gradient.dtype)
            part = weight @ one.gradient.flatten(1)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.unflatten(1, self._nodes[0].gradient.shape[1:])

    def _change(self) -> Float[Tensor, " item"]:
        """The agreement error of the first estimate, which the second judges."""
        return change(self._layer.scores(self._estimates, self._active), signed=self._layer.signed)

    def _certified(
        self, path_error: Floats, rise: Floats, change: NDArray[Any], agreement: float
    ) -> NDArray[np.bool_]:
        """Judges each active item; keeps the path error that is asked of it."""
        most = max(PATH_SHARE * self._tolerance, _NOISE)
        self._asked = np.clip(RISE_SHARE * self._tolerance * rise, _NOISE, most)
        return (path_error <= self._asked) & (change <= agreement * self._tolerance)

    def _accept(self, done: NDArray[np.bool_], numbers: Sequence[NDArray[Any]]) -> None:
        """Enters what was found of those items that are done, which are active no more."""
        for values, new in zip(self._found.values(), numbers, strict=True):
            values[self.active[done]] = new[done]
        if done.all() and len(done) == len(self._layer.items):
            self._gradient = self._estimates[0]
        elif done.any():
            if len(done) == len(self._layer.items):  # the first that are
                self._gradient = torch.empty_like(self._gradient)
            places = to_device(np.flatnonzero(done), self._layer.device)
            self._gradient[self._active[places]] = self._estimates[0, places]
        self.active, self._asked = self.active[~done], self._asked[~done]


def change(scores: Float[Tensor, "item head 2 query key"], *, signed: bool = False) -> Float[Tensor, " item"]:
    """Largest difference of a per-head maximum between two estimates, relative to the first's largest entry.

    Maxima below 0 count as 0, unless they are `signed` numbers of whole heads. Padding is exactly 0, so
    otherwise the change would depend on the padding.
    """
    largest = scores[:, :, 0].abs().amax((1, 2, 3)).clamp_min(_NOISE)
    maxima = scores.amax((3, 4))
    maxima = maxima if signed else maxima.clamp_min(0)
    return (maxima[:, :, 0] - maxima[:, :, 1]).abs().amax(1) / largest
