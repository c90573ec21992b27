"""Attribution along the paths, from the baselines and with the weights of `engine.variants`.

The adaptive integral is that of the paper's path: it is told where context vectors are at each alpha, and
integrates and certifies as always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from attattr_batch.engine.adaptive import integrate
from attattr_batch.engine.attribution import layers_at_once
from attattr_batch.engine.families import Trace
from attattr_batch.engine.layer import Certificate, Layer
from attattr_batch.engine.path import Items, Line, Replayed, clean_layers
from attattr_batch.engine.variants import PathVariant
from attattr_batch.spec import MethodSettings


@dataclass(frozen=True, kw_only=True)
class PathScores:
    """Attribution of all items at one layer along another path, with certificates.

    On the path `layer`, all heads of an item have the same certificate.

    Attributes:
        layer: 0-based layer.
        scores: Attribution; for the baseline `mean` one number a head, [item, head, 1, 1].
        f_full: F(A), the clean probability.
        f_zero: F at alpha = 0.
        completeness_error: sum(scores) - (f_full - f_zero), on the path `head` of each head alone; NaN for
            the weights `idg`, which promise no completeness.
        path_error: As `Certificate` has it.
        nodes: Nodes of the rule or mesh that was accepted.
        certified: Whether it met all criteria; for the weights `idg`, agreement is that of their own scores.
    """

    layer: int
    scores: Float[Tensor, "item head query key"]
    f_full: Float[Tensor, " item"]
    f_zero: Float[Tensor, "item head"]
    completeness_error: Float[Tensor, "item head"]
    path_error: Float[Tensor, "item head"]
    nodes: Int[Tensor, "item head"]
    certified: Bool[Tensor, "item head"]


def attribute_along(
    trace: Trace,
    items: Items,
    variants: Sequence[PathVariant],
    method: MethodSettings,
    batch_tokens: int = 4096,
    means: Float[Tensor, "layer width"] | None = None,
) -> Iterator[tuple[PathVariant, PathScores]]:
    """Yields the attribution of all items by each variant, layer by layer.

    Args:
        trace: Clean forward pass over the batch; its graph is used up.
        items: Rows and classes to attribute.
        variants: The paths, baselines and weights.
        method: Tolerance and dtype of the adaptive rule.
        batch_tokens: Tokens replayed at once; bounds memory, changes no result beyond rounding.
        means: Mean contexts of heads, heads side by side; the baseline `mean` needs them.
    """
    clean = clean_layers(trace, items)
    at_once = layers_at_once(items.rows.device, len(clean))
    for variant in variants:
        for start in range(0, len(clean), at_once):
            plain = [
                Layer(trace, number, items, clean[number], batch_tokens)
                for number in range(len(clean))[start : start + at_once]
            ]
            layers = [VariantLayer(layer, variant, _base(variant, layer, means)) for layer in plain]
            found = integrate(layers, method)
            while layers:
                yield variant, layers.pop(0).attribution(*found.pop(0))


class VariantLine(Line):
    """The line of a variant.

    Args:
        context: Clean context vectors of the batch's rows.
        base: The base of each row, the same at every query; None where it is zero.
        variant: Which heads move, and how their gradients are weighed.
        n_heads: Heads of the layer.
    """

    def __init__(
        self,
        context: Float[Tensor, "row reach width"],
        base: Float[Tensor, "row 1 width"] | None,
        variant: PathVariant,
        n_heads: int,
    ):
        super().__init__(context)
        self._base, self._variant, self._n_heads = base, variant, n_heads

    def ends(self, items: Items) -> tuple[Tensor | None, Float[Tensor, "item reach width"]]:
        """The base of each item, and ctx - base; heads that stay as they are have no part in it."""
        clean = self.context[items.rows]
        if self._base is None and items.heads is None:
            return None, clean
        direction = clean if self._base is None else clean - self._base[items.rows]
        if items.heads is not None:
            moved = one_hot(items.heads, self._n_heads).to(direction)
            direction = (direction.unflatten(-1, (self._n_heads, -1)) * moved[:, None, :, None]).flatten(2)
        return clean - direction, direction

    def kept(
        self, items: Items, slope: Float[Tensor, " item"], gradient: Float[Tensor, "item reach width"]
    ) -> Tensor:
        """The gradient, of the one head that moves if it is one, weighed by dF/dalpha if it is to be."""
        return self.weighed(slope, self.moved(items, gradient))

    def moved(
        self, items: Items, vectors: Float[Tensor, "item reach width"]
    ) -> Float[Tensor, "item reach part"]:
        """The part of vectors that belongs to the heads that move."""
        if items.heads is None:
            return vectors
        by_head = vectors.unflatten(-1, (self._n_heads, -1))
        return by_head[torch.arange(len(items), device=vectors.device), :, items.heads]

    def weighed(
        self, slope: Float[Tensor, " item"], gradient: Float[Tensor, "item reach part"]
    ) -> Float[Tensor, "item reach part"]:
        """The gradient as it counts at an alpha where F rises by this slope."""
        return gradient * slope.to(gradient)[:, None, None] if self._variant.weights == "idg" else gradient


class VariantLayer:
    """A layer as the adaptive integral needs it for a variant.

    Attributes:
        items: The layer's items; on the path `head` each of them once for every head, those of an item in a
            row.
    """

    def __init__(self, layer: Layer, variant: PathVariant, base: Float[Tensor, "row 1 width"] | None):
        self._layer, self._variant = layer, variant
        self._n_heads = layer.attention.shape[1]
        self._line = VariantLine(layer.context, base, variant, self._n_heads)
        self.items, self._factors = layer.items, layer.attention
        if variant.path == "head":
            self.items = _each_head(layer.items, self._n_heads)
        if variant.baseline == "uniform":
            self._factors = layer.attention - layer.uniform()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._layer.device

    @property
    def signed(self) -> bool:
        """Whether a score stands for a whole head."""
        return self._variant.baseline == "mean"

    def replay(self, index: Int[Tensor, " node"], alphas: Float[Tensor, " node"], dtype: str) -> Replayed:
        """F and its gradients for the item of each index at an alpha of its own."""
        return self._layer.replay_along(self._line, self.items.select(index), alphas, dtype)

    def at_one_replayed(self) -> Replayed:
        """What a replay of all items at alpha = 1 would give; the clean forward pass has it."""
        value, gradient = self._layer.at_one.value, self._layer.at_one.gradient()
        _, direction = self._line.ends(self._layer.items)
        slope = self._by_head(gradient * direction).sum((1, 3)).double()
        if self.items.heads is None:
            slope = slope.sum(1)
        else:
            value, slope = value.repeat_interleave(self._n_heads), slope.flatten()
            gradient = self._by_head(gradient).transpose(1, 2).flatten(0, 1)
        return Replayed(value, slope, self._line.weighed(slope, gradient))

    def scores(
        self, gradients: Float[Tensor, "estimate item reach width"], index: Int[Tensor, " item"]
    ) -> Float[Tensor, "item head estimate query key"]:
        """Scores that follow from some estimates of the integral; on the path `head`, one head an item."""
        items = self.items.select(index)
        if self._variant.baseline == "mean":
            _, direction = self._line.ends(items)
            products = gradients * self._line.moved(items, direction)
            of_heads = products.unflatten(-1, (self._n_heads if items.heads is None else 1, -1))
            return of_heads.sum((2, 4)).permute(1, 2, 0)[..., None, None]
        if items.heads is None:
            return self._layer.scores(gradients, index, self._factors)
        values, factors = (
            part[items.rows, items.heads][:, None] for part in (self._layer.values, self._factors)
        )
        products = gradients.transpose(0, 1) @ values.transpose(-1, -2)
        return products.mul_(factors[:, :, : gradients.shape[2]])[:, None]

    def attribution(self, integral: Tensor, certificate: Certificate) -> PathScores:
        """The attribution that follows from the integral."""
        shape = (len(self._layer.items), -1)
        scores = self.scores(integral[None], self.items.everything).squeeze(2)
        value = self._layer.at_one.value
        full = value if self.items.heads is None else value.repeat_interleave(self._n_heads)
        error = scores.sum((1, 2, 3)) - (full - certificate.f_zero)
        if self._variant.weights == "idg":
            error = torch.full_like(error, torch.nan)
        numbers = {
            name: getattr(certificate, name) for name in ("f_zero", "path_error", "nodes", "certified")
        }
        numbers["completeness_error"] = error
        return PathScores(
            layer=self._layer.number,
            scores=scores.flatten(0, 1).unflatten(0, (shape[0], self._n_heads)),
            f_full=value,
            **{name: one.unflatten(0, shape).expand(-1, self._n_heads) for name, one in numbers.items()},
        )

    def _by_head(self, products: Float[Tensor, "... width"]) -> Float[Tensor, "... head head_width"]:
        return products.unflatten(-1, (self._n_heads, -1))


def _base(
    variant: PathVariant, layer: Layer, means: Float[Tensor, "layer width"] | None
) -> Float[Tensor, "row 1 width"] | None:
    """The context vectors of a layer at alpha = 0, the same at every query; None for zero.

    Raises:
        ValueError: means are needed, and were not given.
    """
    if variant.baseline == "zero":
        return None
    if variant.baseline == "uniform":
        return (layer.uniform() @ layer.values).transpose(1, 2).flatten(2)
    if means is None:
        raise ValueError("the baseline `mean` needs mean contexts")
    return means[layer.number].to(layer.context).expand(len(layer.context), 1, -1)


def _each_head(items: Items, n_heads: int) -> Items:
    """Every item once for each head."""
    heads = torch.arange(n_heads, device=items.rows.device).repeat(len(items))
    rows, classes = (one.repeat_interleave(n_heads) for one in (items.rows, items.classes))
    return Items(rows, classes, heads)
