"""Shorthand of the engine tests: what to attribute, the run itself, and how far two results lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Batch, Trace, encoder_for
from attattr_batch.engine.layer import LayerAttribution
from attattr_batch.engine.path import Items, replay
from attattr_batch.engine.statistics import full_scores
from attattr_batch.spec import MethodSettings


def gold_and_predicted(model: Any, batch: Batch) -> Items:
    """Every row twice: for the class row mod 3, and for the predicted class."""
    rows = torch.arange(len(batch.input_ids))
    with torch.no_grad():
        predicted = model(**batch.model_inputs()).logits.argmax(1)
    return Items(torch.cat([rows, rows]), torch.cat([rows % 3, predicted]))


def attribute(
    model: Any,
    batch: Batch,
    items: Items,
    method: MethodSettings,
    *,
    generic: bool = False,
    batch_tokens: int = 4096,
) -> list[LayerAttribution]:
    """One result a layer."""
    trace = encoder_for(model, generic=generic).trace(batch)
    return list(attribute_layers(trace, items, method, batch_tokens))


class Nodes(NamedTuple):
    """F [node, item] and dF/dctx [node, item, reach, width] at some alphas."""

    value: Tensor
    gradient: Tensor


def replayed_nodes(
    trace: Trace, layer: int, items: Items, alphas: Sequence[float] | NDArray[np.float64]
) -> Nodes:
    """Every item at each alpha, in float32."""
    shape = (len(alphas), len(items))
    each = Items(items.rows.repeat(len(alphas)), items.classes.repeat(len(alphas)))
    scale = torch.tensor(np.asarray(alphas)).repeat_interleave(len(items))
    value, _, gradient = replay(trace, layer, each, scale, 4096)
    return Nodes(value.unflatten(0, shape), gradient.unflatten(0, shape))


def scores(results: list[LayerAttribution]) -> Tensor:
    """Whole matrices [layer, item, head, query, key]."""
    return torch.stack([full_scores(result) for result in results])


def distance(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference, relative to the largest absolute entry of `other`."""
    return float((one - other).abs().max() / other.abs().max())
