"""The path of an attribution integral: F and its gradient where one layer's context vectors are scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.families import Trace
from attattr_batch.engine.quadrature import Rule


@dataclass(frozen=True)
class Items:
    """What is attributed: for each item a row of the batch and a class.

    Attributes:
        rows: Batch row of each item.
        classes: Class whose probability is attributed.
    """

    rows: Int[Tensor, " item"]
    classes: Int[Tensor, " item"]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Nodes:
    """F and dF/dctx at some alphas.

    Attributes:
        value: The class probability F, float64.
        gradient: dF/dctx.
    """

    value: Float[Tensor, "node item"]
    gradient: Float[Tensor, "node item reach width"]


@dataclass(frozen=True)
class CleanLayer:
    """What one layer's integral and Taylor scores need of the model as it is, at alpha = 1.

    Attributes:
        value: The class probability F of each item, float64.
        log_gradient: d(log F)/dctx of each item.
        logit_gradient: Gradient of the sum of a row's class scores, whichever class is attributed.
    """

    value: Float[Tensor, " item"]
    log_gradient: Float[Tensor, "item reach width"]
    logit_gradient: Float[Tensor, "row reach width"]

    def gradient(self) -> Float[Tensor, "item reach width"]:
        """dF/dctx of each item: F d(log F)/dctx."""
        return self.value.to(self.log_gradient.dtype)[:, None, None] * self.log_gradient


def class_log_probability(
    logits: Float[Tensor, "replay label"], classes: Int[Tensor, " replay"]
) -> Float[Tensor, " replay"]:
    """Logarithm of the softmax probability of one class per replay, float64.

    Where F is close to 1, every gradient is proportional to 1 - F, and float32 loses that: at 1 - F = 4e-7 it
    is off by 7 %.
    """
    return logits.double().log_softmax(-1).gather(1, classes[:, None]).squeeze(1)


def class_probability(
    logits: Float[Tensor, "replay label"], classes: Int[Tensor, " replay"]
) -> Float[Tensor, " replay"]:
    """Softmax probability of one class per replay, float64."""
    return class_log_probability(logits, classes).exp()


def clean_layers(trace: Trace, items: Items) -> list[CleanLayer]:
    """The model at alpha = 1, for every layer, from two backward passes through the clean graph.

    One is of log F, the other of the sum of class scores, which the Taylor scores of the released code take.
    A second class of an example takes one more over the whole batch: still far less than replaying every
    layer at alpha = 1.
    """
    value = trace.logits.new_empty(len(items), dtype=torch.float64)
    gradients = [context.new_zeros((len(items), *context.shape[1:])) for context in trace.contexts]
    # A backward pass serves items of distinct rows only: gradients of one row's classes would add up.
    for index in _rounds(items.rows):
        rows = items.rows[index]
        logarithm = class_log_probability(trace.logits[rows], items.classes[index])
        parts = torch.autograd.grad(logarithm.sum(), trace.contexts, retain_graph=True)
        value[index] = logarithm.detach().exp()
        for gradient, part in zip(gradients, parts, strict=True):
            gradient[index] = part[rows]
    of_logits = torch.autograd.grad(trace.logits.sum(), trace.contexts)
    return [CleanLayer(value, *both) for both in zip(gradients, of_logits, strict=True)]


def replayed_nodes(
    trace: Trace, layer: int, items: Items, alphas: Sequence[float], batch_tokens: int
) -> Nodes:
    """F and dF/dctx of every item at each alpha, by replaying `layer` with alpha * ctx.

    Args:
        trace: The clean forward pass.
        layer: 0-based layer.
        items: The items to evaluate.
        alphas: Scales of the layer's attention.
        batch_tokens: Tokens (replays x tokens of the longest row) computed at once.
    """
    shape = (len(alphas), len(items))
    each = Items(items.rows.repeat(len(alphas)), items.classes.repeat(len(alphas)))
    value, gradient = replay(trace, layer, each, np.repeat(alphas, len(items)), batch_tokens)
    return Nodes(value.unflatten(0, shape), gradient.unflatten(0, shape))


def replay(
    trace: Trace, layer: int, items: Items, alphas: NDArray[np.float64], batch_tokens: int
) -> tuple[Float[Tensor, " replay"], Float[Tensor, "replay reach width"]]:
    """F (float64) and dF/dctx of each item at an alpha of its own; see `replayed_nodes`."""
    clean = trace.contexts[layer].detach()
    scale = torch.from_numpy(alphas).to(clean)
    value = clean.new_empty(len(items), dtype=torch.float64)
    gradient = clean.new_empty((len(items), *clean.shape[1:]))
    at_once = max(1, batch_tokens // trace.batch.input_ids.shape[1])
    for start in range(0, len(items), at_once):
        part = slice(start, start + at_once)
        rows = items.rows[part]
        leaf = (scale[part, None, None] * clean[rows]).requires_grad_()
        probability = class_probability(trace.replay(layer, rows, leaf), items.classes[part])
        (gradient[part],) = torch.autograd.grad(probability.sum(), leaf)
        value[part] = probability.detach()
    return value, gradient


def removed_value(trace: Trace, layer: int, items: Items, batch_tokens: int) -> Float[Tensor, " item"]:
    """F(0): the class probability with the layer's attention scaled to zero; forward only."""
    clean = trace.contexts[layer].detach()
    at_once = max(1, batch_tokens // trace.batch.input_ids.shape[1])
    parts = []
    with torch.no_grad():
        for rows, classes in zip(items.rows.split(at_once), items.classes.split(at_once), strict=True):
            logits = trace.replay(layer, rows, torch.zeros_like(clean[rows]))
            parts.append(class_probability(logits, classes))
    return torch.cat(parts)


def _rounds(rows: Int[Tensor, " item"]) -> list[Tensor]:
    """Partitions items so that no batch row occurs twice in a part."""
    turn = (rows[:, None] == rows).tril(-1).sum(1)  # how often an item's row occurs before it
    return [(turn == number).nonzero().squeeze(1) for number in range(int(turn.max()) + 1)]


@dataclass(frozen=True)
class Estimate:
    """What some nodes say of the integral of each item.

    Attributes:
        gradient: The integral of dF/dctx over alpha.
        f_zero: F(0).
        path_error: Largest difference, at any node, between F(alpha) - F(0) and the integral of dF/dalpha
            up to alpha.
        rise: Largest |F(alpha) - F(0)| at any node.
    """

    gradient: Float[Tensor, "item reach width"]
    f_zero: Float[Tensor, " item"]
    path_error: Float[Tensor, " item"]
    rise: Float[Tensor, " item"]


class KnownNodes:
    """F and dF/dctx of the active items, by alpha."""

    def __init__(self, value: Float[Tensor, " item"], gradient: Float[Tensor, "item reach width"]):
        self._at = {1.0: (value, gradient)}

    def missing(self, rule: Rule) -> list[float]:
        """The rule's nodes that are still to be computed; nodes that no later rule uses are forgotten."""
        alphas = rule.nodes.tolist()
        self._at = {alpha: node for alpha, node in self._at.items() if alpha in alphas}
        return [alpha for alpha in alphas if alpha not in self._at]

    def add(self, alphas: list[float], nodes: Nodes) -> None:
        """Enters nodes that have been computed."""
        self._at.update(zip(alphas, zip(nodes.value, nodes.gradient, strict=True), strict=True))

    def select(self, index: Tensor) -> None:
        """Drops the items that are not in `index`."""
        self._at = {alpha: (value[index], slope[index]) for alpha, (value, slope) in self._at.items()}

    def at(self, rule: Rule) -> Nodes:
        """F and dF/dctx at the nodes of a rule, all of which are known."""
        value, gradient = zip(*(self._at[alpha] for alpha in rule.nodes.tolist()), strict=True)
        return Nodes(torch.stack(value), torch.stack(gradient))

    def integral(self, rule: Rule) -> Float[Tensor, "item reach width"]:
        """The integral of dF/dctx by a rule all of whose nodes are known."""
        total = torch.zeros_like(self._at[1.0][1])
        for alpha, weight in zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True):
            total.add_(self._at[alpha][1], alpha=weight)
        return total

    def estimate(self, rule: Rule, context: Float[Tensor, "item reach width"]) -> Estimate:
        """What a rule all of whose nodes are known says of the integral."""
        nodes = [self._at[alpha] for alpha in rule.nodes.tolist()]
        f_zero = self._at[0.0][0]
        slopes = torch.stack([(gradient * context).sum((1, 2)) for _, gradient in nodes])
        rises = torch.stack([value for value, _ in nodes]) - f_zero
        partial = torch.from_numpy(rule.partial).to(rises)
        path_error = (partial @ slopes.to(rises) - rises).abs().amax(0)
        return Estimate(self.integral(rule), f_zero, path_error, rises.abs().amax(0))
