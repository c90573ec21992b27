"""The path of an attribution integral: F and its gradient where one layer's context vectors are moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.families import Trace
from attattr_batch.engine.transfer import to_device, to_host

_LOSS_SCALE = 256.0
"""Keeps small gradients of log(F / (1 - F)) above the smallest numbers of float16."""

_TINY = 1e-30
"""Stands for 1 - F where float64 does not tell it from 0."""


@dataclass(frozen=True)
class Items:
    """What is attributed: for each item a row of the batch and a class.

    Attributes:
        rows: Batch row of each item.
        classes: Class whose probability is attributed.
        heads: The head that is scaled alone; None where all heads of a layer are scaled together.
    """

    rows: Int[Tensor, " item"]
    classes: Int[Tensor, " item"]
    heads: Int[Tensor, " item"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index: Int[Tensor, " chosen"]) -> Items:
        """The items of these indices; one may come several times."""
        if index is self.everything:
            return self
        heads = None if self.heads is None else self.heads[index]
        return Items(self.rows[index], self.classes[index], heads)

    def split(self, size: int) -> Iterator[Items]:
        """The same items in parts of at most so many."""
        heads = repeat(None) if self.heads is None else self.heads.split(size)
        for part in zip(self.rows.split(size), self.classes.split(size), heads, strict=False):
            yield Items(*part)

    @cached_property
    def everything(self) -> Int[Tensor, " item"]:
        """Indices of all items."""
        return torch.arange(len(self.rows), device=self.rows.device)


class Line:
    """How context vectors move as alpha goes from 0 to 1: ctx(alpha) = base + alpha * (ctx - base).

    Here as the paper has it: the base is zero, and all heads of the layer move together.

    Args:
        context: Clean context vectors of the batch's rows.
    """

    def __init__(self, context: Float[Tensor, "row reach width"]):
        self.context = context

    def ends(self, items: Items) -> tuple[Tensor | None, Float[Tensor, "item reach width"]]:
        """The base of each item (None where it is zero), and ctx - base."""
        return None, self.context[items.rows]

    def kept(
        self, items: Items, slope: Float[Tensor, " item"], gradient: Float[Tensor, "item reach width"]
    ) -> Tensor:
        """What is integrated over alpha of each item's dF/dctx, given its dF/dalpha: all of it."""
        return gradient


class Replayed(NamedTuple):
    """F along the path of each item.

    Attributes:
        value: The class probability F, float64.
        slope: dF/dalpha, float64: the product of dF/dctx and ctx - base.
        gradient: dF/dctx, or what `Line.kept` keeps of it.
    """

    value: Float[Tensor, " item"]
    slope: Float[Tensor, " item"]
    gradient: Float[Tensor, "item reach width"]


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
    # A backward pass serves items of distinct rows only: gradients of one row's classes would add up.
    rounds, found = _rounds(items.rows), []
    for index in (to_device(one, items.rows.device) for one in rounds):
        rows = items.rows[index]
        logarithm = class_log_probability(trace.logits[rows], items.classes[index])
        parts = torch.autograd.grad(logarithm.sum(), trace.contexts, retain_graph=True)
        value[index] = logarithm.detach().exp()
        found.append([part[rows] for part in parts])
    gradients = [torch.cat(of_layer) for of_layer in zip(*found, strict=True)]
    order = np.concatenate(rounds)
    if (np.diff(order) < 0).any():
        places = to_device(np.argsort(order), items.rows.device)
        gradients = [gradient[places] for gradient in gradients]
    of_logits = torch.autograd.grad(trace.logits.sum(), trace.contexts)
    return [CleanLayer(value, *both) for both in zip(gradients, of_logits, strict=True)]


def replay(
    trace: Trace,
    layer: int,
    items: Items,
    alphas: Float[Tensor, " item"],
    batch_tokens: int,
    line: Line | None = None,
) -> Replayed:
    """Replays `layer` with alpha * ctx, or where else a line leads, each item at an alpha of its own.

    What is propagated back is the gradient of log(F / (1 - F)), which is neither very small nor very large
    wherever F is, so that it fits the range of float16.

    Args:
        trace: The clean forward pass.
        layer: 0-based layer.
        items: The items to evaluate; one may come several times.
        alphas: Scale of the layer's attention for each.
        batch_tokens: Tokens (replays x tokens of the longest row) computed at once.
        line: How the context vectors move; None stands for alpha * ctx.
    """
    line = line or Line(trace.contexts[layer].detach())
    at_once = max(1, batch_tokens // trace.batch.input_ids.shape[1])
    found = []
    scales = alphas.to(line.context).split(at_once)
    for part, scale in zip(items.split(at_once), scales, strict=True):
        base, direction = line.ends(part)
        leaf = scale[:, None, None] * direction
        leaf = (leaf if base is None else leaf.add_(base)).requires_grad_()
        logarithm = class_log_probability(trace.replay(layer, part.rows, leaf), part.classes)
        other = logarithm.detach().expm1() / -_LOSS_SCALE  # 1 - F, scaled
        (gradient,) = torch.autograd.grad(logarithm, leaf, other.clamp_min(_TINY).reciprocal())
        value = logarithm.detach().exp()
        gradient.mul_((value * other).to(gradient)[:, None, None])
        slope = (gradient * direction).sum((1, 2)).double()
        found.append((value, slope, line.kept(part, slope, gradient)))
    if len(found) == 1:
        return Replayed(*found[0])
    return Replayed(*(torch.cat(parts) for parts in zip(*found, strict=True)))


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


def _rounds(rows: Int[Tensor, " item"]) -> list[NDArray[np.int64]]:
    """Partitions items so that no batch row occurs twice in a part."""
    (known,) = to_host([rows])
    turn = np.tril(known[:, None] == known, -1).sum(1)  # how often an item's row occurs before it
    return [np.flatnonzero(turn == number) for number in range(turn.max() + 1)]
