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
        value: The class probability F.
        gradient: dF/dctx.
    """

    value: Float[Tensor, "node item"]
    gradient: Float[Tensor, "node item reach width"]


def class_probability(
    logits: Float[Tensor, "pass label"], classes: Int[Tensor, " pass"]
) -> Float[Tensor, " pass"]:
    """Softmax probability of one class per pass, in float32 at least."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return precise.softmax(-1).gather(1, classes[:, None]).squeeze(1)


def clean_nodes(trace: Trace, items: Items) -> list[Nodes]:
    """The node at alpha = 1, for every layer, from one backward pass through the clean graph.

    An example attributed for two classes takes a second backward pass over the whole batch: still far
    less than replaying every layer at alpha = 1.
    """
    value = trace.logits.new_empty(len(items))
    gradients = [context.new_zeros((len(items), *context.shape[1:])) for context in trace.contexts]
    # One backward pass serves items of distinct rows only: gradients of one row's classes would add up.
    passes = _rounds(items.rows)
    for number, index in enumerate(passes):
        rows = items.rows[index]
        probability = class_probability(trace.logits[rows], items.classes[index])
        parts = torch.autograd.grad(probability.sum(), trace.contexts, retain_graph=number + 1 < len(passes))
        value[index] = probability.detach()
        for gradient, part in zip(gradients, parts, strict=True):
            gradient[index] = part[rows]
    return [Nodes(value[None], gradient[None]) for gradient in gradients]


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
    value = clean.new_empty(n_nodes * n_items)
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
