"""Integrated gradients over the attention of each layer (paper, section 3; equation 3).

For layer l with attention A, values V, and the probability F of one class,

    Attr_h = A_h * ( [ sum_k w_k dF/dctx_h(alpha_k) ] V_h^T ),     ctx(alpha) = alpha * A V,

all heads of the layer scaled together by alpha. Completeness: the sum of Attr over heads, queries and keys
is F(A) - F(0); the difference is stored with every row as its completeness error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attattr_batch.engine.families import Trace
from attattr_batch.engine.mesh import MOST_NODES, Mesh
from attattr_batch.engine.path import (
    CleanLayer,
    Estimate,
    Items,
    KnownNodes,
    Nodes,
    clean_layers,
    removed_value,
    replay,
    replayed_nodes,
)
from attattr_batch.engine.quadrature import NESTED_SIZES, Rule, fixed_rule, nested
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

_COARSE = 1e-2
"""Smallest tolerance at which three nodes may do; they let errors of 0.4 % of the largest head pass."""

_BFLOAT16_ROUNDING, _BFLOAT16_NODES = 0.02, 9
"""Path error that bfloat16 may cause by itself. Only where more than that is accepted are rules beyond the
first tried in it, up to this many nodes."""

_ROUNDING = 1e-6
"""Scores and errors below this are rounding noise of float32 class scores, as where F is saturated."""


def ladder(tolerance: float) -> tuple[int, ...]:
    """Sizes of the nested rules tried in turn; the first only serves to judge the second."""
    return NESTED_SIZES if tolerance >= _COARSE else NESTED_SIZES[1:]


@dataclass(frozen=True)
class LayerAttribution:
    """Attribution of all items at one layer.

    Attributes:
        layer: 0-based layer.
        attention: Clean attention probabilities of the batch's rows.
        scores: Attribution; query positions that cannot reach the classifier, exactly zero, are left out.
        taylor: |A_h . dL/dA_h| at alpha = 1, which equals |ctx_h . dL/dctx_h|, where L = -log F is the
            cross-entropy (Michel et al. 2019, equation 3).
        taylor_released: What the authors' pruning script takes instead: the gradient of the sum of class
            scores, not of L, and the absolute value at each query position before the sum over positions.
        f_full: F(A), the clean probability.
        f_zero: F(0), the probability with the layer's attention scaled to zero.
        completeness_error: sum(scores) - (f_full - f_zero).
        path_error: Largest absolute completeness error of the integrals from 0 to each node, in which errors
            along the path cannot cancel; NaN for a fixed rule.
        agreement_error: Largest change of a per-head maximum from the rule before (on a mesh, from coarser
            polynomials), relative to the layer's largest entry; NaN for a fixed rule.
        nodes: Nodes of the rule or mesh that was accepted.
        certified: Whether that met all criteria; False where even the largest mesh did not.
    """

    layer: int
    attention: Float[Tensor, "row head query key"]
    scores: Float[Tensor, "item head reach key"]
    taylor: Float[Tensor, "item head"]
    taylor_released: Float[Tensor, "item head"]
    f_full: Float[Tensor, " item"]
    f_zero: Float[Tensor, " item"]
    completeness_error: Float[Tensor, " item"]
    path_error: Float[Tensor, " item"]
    agreement_error: Float[Tensor, " item"]
    nodes: Int[Tensor, " item"]
    certified: Bool[Tensor, " item"]


def attribute_layers(
    trace: Trace, items: Items, method: MethodSettings, batch_tokens: int = 4096
) -> Iterator[LayerAttribution]:
    """Yields the attribution of all items layer by layer, so that one layer's matrices are held at a time.

    Args:
        trace: Clean forward pass over the batch; its graph is used up.
        items: Rows and classes to attribute.
        method: How to integrate. From its tolerance, the bound on the completeness error of every (item,
            layer) pair, follow the accepted path error (`PATH_SHARE`, `RISE_SHARE`) and change of the scores
            (`AGREEMENT`). Its dtype is that of the replays; the clean forward pass and the statistics are
            float32 in any case.
        batch_tokens: Tokens replayed at once; bounds memory, changes no result beyond rounding.
    """
    for layer, clean in enumerate(clean_layers(trace, items)):
        integral = _LayerIntegral(trace, layer, items, clean, method, batch_tokens)
        yield integral.adaptive() if method.quadrature == "adaptive" else integral.fixed()


@dataclass
class _LayerIntegral:
    """One layer's integral over alpha for all items."""

    trace: Trace
    layer: int
    items: Items
    at_one: CleanLayer
    method: MethodSettings
    batch_tokens: int

    def __post_init__(self) -> None:
        self.attention, self.values = self.trace.attention(self.layer)
        self.context = self.trace.contexts[self.layer].detach()
        self.gradient_at_one = self.at_one.gradient()
        self.everything = torch.arange(len(self.items), device=self.items.rows.device)

    def fixed(self) -> LayerAttribution:
        """Applies one rule to all items, with as many nodes at once as `batch_tokens` has room for."""
        method, result = self.method, self._empty_result()
        rule = fixed_rule(method.quadrature, method.nodes or 0)
        weights = dict(zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True))
        gradient = weights.get(1.0, 0.0) * self.gradient_at_one
        alphas = [alpha for alpha in weights if alpha != 1.0]
        at_once = max(1, self.batch_tokens // (len(self.items) * self.trace.batch.input_ids.shape[1]))
        for start in range(0, len(alphas), at_once):
            part = alphas[start : start + at_once]
            nodes = self._replay(part, self.everything, method.dtype)
            for alpha, value, slope in zip(part, nodes.value, nodes.gradient, strict=True):
                gradient += weights[alpha] * slope
                if alpha == 0.0:
                    result.f_zero[:] = value
        if 0.0 not in weights:
            with _precision(method.dtype, self.context.device):
                result.f_zero[:] = removed_value(self.trace, self.layer, self.items, self.batch_tokens)
        result.scores[:] = self._scores(gradient, self.everything)
        result.completeness_error[:] = result.scores.sum((1, 2, 3)) - (result.f_full - result.f_zero)
        result.nodes[:] = len(rule)
        return result

    def adaptive(self) -> LayerAttribution:
        """Tries larger and larger rules, then finer and finer meshes, on those items that miss the tolerance.

        Every node is used again; the node at 0 gives F(0) and the one at 1 is the clean forward pass.
        """
        result, method = self._empty_result(), self.method
        active, dtype = self.everything, method.dtype
        known = KnownNodes(self.at_one.value, self.gradient_at_one)
        before: Tensor | None = None
        coarsest, *levels = ladder(method.tolerance)
        for size in levels:
            rule = nested(size)
            missing = known.missing(rule)
            known.add(missing, self._replay(missing, active, dtype))
            if before is None:
                before = self._scores(known.integral(nested(coarsest)), active)
            estimate = known.estimate(rule, self.context[self.items.rows[active]])
            found = self._judged(estimate, active, before, AGREEMENT)
            accept = found["certified"]
            self._enter(result, active[accept], found, accept, size)
            if accept.all():
                return result
            active, before = active[~accept], found["scores"][~accept]
            loose = size < _BFLOAT16_NODES and PATH_SHARE * method.tolerance >= _BFLOAT16_ROUNDING
            if dtype == "float32" or loose:
                known.select(~accept)
            else:  # what bfloat16 could not certify starts again in float32
                dtype = "float32"
                known = KnownNodes(self.at_one.value[active], self.gradient_at_one[active])
        if missing := known.missing(rule):
            known.add(missing, self._replay(missing, active, "float32"))
        self._refine(result, known, rule, active)
        return result

    def _refine(self, result: LayerAttribution, known: KnownNodes, rule: Rule, active: Tensor) -> None:
        """Gives the active items nodes where they need them, until they are certified or have no room."""
        mesh = Mesh(rule.nodes, known.at(rule), self.context[self.items.rows[active]])
        asked = self._asked(mesh.estimate().rise)
        while len(active):
            item, alphas = mesh.wanted(asked.cpu().numpy())
            each = active[torch.from_numpy(item).to(active.device)]
            items = Items(self.items.rows[each], self.items.classes[each])
            mesh.add(item, alphas, *replay(self.trace, self.layer, items, alphas, self.batch_tokens))
            estimate, sizes = mesh.estimate(), torch.from_numpy(mesh.sizes()).to(active.device)
            asked = self._asked(estimate.rise)
            coarser = self._scores(mesh.integral(_COARSER), active)
            found = self._judged(estimate, active, coarser, REFINED_AGREEMENT)
            done = found["certified"] | (sizes >= MOST_NODES)
            self._enter(result, active[done], found, done, sizes[done])
            mesh.select(~done.cpu().numpy())
            active, asked = active[~done], asked[~done]

    def _asked(self, rise: Tensor) -> Float[Tensor, " item"]:
        """The largest path error accepted of each item."""
        tolerance = self.method.tolerance
        return (RISE_SHARE * tolerance * rise).clamp(_ROUNDING, max(PATH_SHARE * tolerance, _ROUNDING))

    def _judged(
        self, estimate: Estimate, active: Tensor, before: Tensor, agreement: float
    ) -> dict[str, Tensor]:
        """Judges an estimate for the active items by F along the path and by the scores before.

        Returns:
            Values of the `LayerAttribution` of these items, by field.
        """
        scores, f_zero = self._scores(estimate.gradient, active), estimate.f_zero
        change = _change(before, scores).to(f_zero)
        accurate = estimate.path_error <= self._asked(estimate.rise)
        return {
            "scores": scores,
            "f_zero": f_zero,
            # The path ends at alpha = 1, so the criterion on the path error bounds this one as well.
            "completeness_error": scores.sum((1, 2, 3)) - (self.at_one.value[active] - f_zero),
            "path_error": estimate.path_error,
            "agreement_error": change,
            "certified": accurate & (change <= agreement * self.method.tolerance),
        }

    @staticmethod
    def _enter(
        result: LayerAttribution, to: Tensor, found: dict[str, Tensor], chosen: Tensor, nodes: int | Tensor
    ) -> None:
        for name, values in found.items():
            getattr(result, name)[to] = values[chosen]
        result.nodes[to] = nodes

    def _replay(self, alphas: list[float], index: Tensor, dtype: str) -> Nodes:
        items = Items(self.items.rows[index], self.items.classes[index])
        with _precision(dtype, self.context.device):
            return replayed_nodes(self.trace, self.layer, items, alphas, self.batch_tokens)

    def _scores(self, gradient: Tensor, index: Tensor) -> Float[Tensor, "item head reach key"]:
        """A * (G V^T): the one place where matrices of tokens by tokens are formed."""
        rows = self.items.rows[index]
        by_head = gradient.unflatten(-1, (self.attention.shape[1], -1)).transpose(1, 2)
        products = by_head @ self.values[rows].transpose(-1, -2)
        return products.mul_(self.attention[rows, :, : gradient.shape[1]])

    def _empty_result(self) -> LayerAttribution:
        full, rows, context = self.at_one.value, self.items.rows, self.context
        n_heads, n_keys = self.attention.shape[1], self.attention.shape[3]

        def by_head(products: Tensor) -> Float[Tensor, "item reach head"]:
            return products.unflatten(-1, (n_heads, -1)).sum(-1)

        return LayerAttribution(
            layer=self.layer,
            attention=self.attention,
            scores=self.attention.new_zeros((len(self.items), n_heads, context.shape[1], n_keys)),
            taylor=by_head(context[rows] * self.at_one.log_gradient).sum(1).abs(),
            taylor_released=by_head(context * self.at_one.logit_gradient).abs().sum(1)[rows],
            f_full=full,
            f_zero=torch.zeros_like(full),
            completeness_error=torch.zeros_like(full),
            path_error=torch.full_like(full, torch.nan),
            agreement_error=torch.full_like(full, torch.nan),
            nodes=torch.zeros_like(self.everything),
            certified=torch.zeros_like(self.everything, dtype=torch.bool),
        )


def _change(before: Tensor, current: Tensor) -> Float[Tensor, " item"]:
    """Largest change of a per-head maximum, relative to the layer's largest absolute entry.

    Maxima below 0 count as 0. Padding is exactly 0, so otherwise the change would depend on the padding.
    """
    largest = current.abs().amax((1, 2, 3)).clamp_min(_ROUNDING)
    change = current.amax((2, 3)).clamp_min(0) - before.amax((2, 3)).clamp_min(0)
    return change.abs().amax(1) / largest


def _precision(dtype: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")
