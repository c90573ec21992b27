"""The path of an attribution integral: F and its gradient where one layer's context vectors are scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attattr_batch.engine.families import Trace


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
class CleanPass:
    """What one layer's integral and Taylor scores need of the model as it is, at alpha = 1.

    Attributes:
        value: The class probability F of each item, float64.
        log_gradient: d(log F)/dctx of each item.
        logit_gradient: Gradient of the sum of a row's class scores, whichever class is attributed.
    """

    value: Float[Tensor, " item"]
    log_gradient: Float[Tensor, "item reach width"]
    logit_gradient: Float[Tensor, "row reach width"]

    def nodes(self) -> Nodes:
        """The integral's node at alpha = 1: dF = F d(log F)."""
        scale = self.value.to(self.log_gradient.dtype)[:, None, None]
        return Nodes(self.value[None], (scale * self.log_gradient)[None])


def class_log_probability(
    logits: Float[Tensor, "replay label"], classes: Int[Tensor, " replay"]
) -> Float[Tensor, " replay"]:
    """Logarithm of the softmax probability of one class per pass, float64.

    Where F is close to 1 all that is left is 1 - F: in float32 it, and with it every gradient, has lost 7 %
    at 4e-7.
    """
    return logits.double().log_softmax(-1).gather(1, classes[:, None]).squeeze(1)


def class_probability(
    logits: Float[Tensor, "replay label"], classes: Int[Tensor, " replay"]
) -> Float[Tensor, " replay"]:
    """Softmax probability of one class per pass, float64."""
    return class_log_probability(logits, classes).exp()


def clean_passes(trace: Trace, items: Items) -> list[CleanPass]:
    """The model at alpha = 1, for every layer, from two backward passes through the clean graph.

    One is of log F, the other of the sum of class scores, which the Taylor scores of the released code take.
    An example attributed for two classes takes a further one over the whole batch: still far less than
    replaying every layer at alpha = 1.
    """
    value = trace.logits.new_empty(len(items), dtype=torch.float64)
    gradients = [context.new_zeros((len(items), *context.shape[1:])) for context in trace.contexts]
    # One backward pass serves items of distinct rows only: gradients of one row's classes would add up.
    for index in _rounds(items.rows):
        rows = items.rows[index]
        logarithm = class_log_probability(trace.logits[rows], items.classes[index])
        parts = torch.autograd.grad(logarithm.sum(), trace.contexts, retain_graph=True)
        value[index] = logarithm.detach().exp()
        for gradient, part in zip(gradients, parts, strict=True):
            gradient[index] = part[rows]
    of_logits = torch.autograd.grad(trace.logits.sum(), trace.contexts)
    return [CleanPass(value, *both) for both in zip(gradients, of_logits, strict=True)]


def replayed_nodes(
    trace: Trace, layer: int, items: Items, alphas: Sequence[float], batch_tokens: int
) -> Nodes:
    """F and dF/dctx at each alpha, by replaying `layer` with alpha * ctx.

    Args:
        trace: The clean pass.
        layer: 0-based layer.
        items: The items to evaluate.
        alphas: Scales of the layer's attention.
        batch_tokens: Bound on passes x tokens run at once.
    """
    clean = trace.contexts[layer].detach()
    n_nodes, n_items = len(alphas), len(items)
    scale = torch.tensor(alphas, device=clean.device, dtype=clean.dtype).repeat_interleave(n_items)
    rows, classes = items.rows.repeat(n_nodes), items.classes.repeat(n_nodes)
    value = clean.new_empty(n_nodes * n_items, dtype=torch.float64)
    gradient = clean.new_empty((n_nodes * n_items, *clean.shape[1:]))
    step = max(1, batch_tokens // trace.batch.input_ids.shape[1])
    for start in range(0, n_nodes * n_items, step):
        part = slice(start, start + step)
        leaf = (scale[part, None, None] * clean[rows[part]]).requires_grad_()
        probability = class_probability(trace.replay(layer, rows[part], leaf), classes[part])
        (gradient[part],) = torch.autograd.grad(probability.sum(), leaf)
        value[part] = probability.detach()
    return Nodes(value.unflatten(0, (n_nodes, n_items)), gradient.unflatten(0, (n_nodes, n_items)))


def removed_value(trace: Trace, layer: int, items: Items, batch_tokens: int) -> Float[Tensor, " item"]:
    """F(0): the class probability with the layer's attention scaled to zero; forward only."""
    clean = trace.contexts[layer].detach()
    step = max(1, batch_tokens // trace.batch.input_ids.shape[1])
    parts = []
    with torch.no_grad():
        for start in range(0, len(items), step):
            rows = items.rows[start : start + step]
            logits = trace.replay(layer, rows, torch.zeros_like(clean[rows]))
            parts.append(class_probability(logits, items.classes[start : start + step]))
    return torch.cat(parts)


def _rounds(rows: Int[Tensor, " item"]) -> list[Tensor]:
    """Partitions items so that no batch row occurs twice in a part."""
    seen: dict[int, int] = {}
    parts: list[list[int]] = []
    for item, row in enumerate(rows.tolist()):
        turn = seen.get(row, 0)
        seen[row] = turn + 1
        if turn == len(parts):
            parts.append([])
        parts[turn].append(item)
    return [torch.tensor(part, device=rows.device) for part in parts]
