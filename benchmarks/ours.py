"""This engine at work, with its completeness errors and the arithmetic that the work needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from arithmetic import clean, replay
from timing import Way
from workloads import Workload

from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import collate
from attattr_batch.engine.path import Items
from attattr_batch.engine.quadrature import fixed_rule
from attattr_batch.spec import MethodSettings


@dataclass(frozen=True)
class Attributed:
    """Completeness errors over all (row, layer) pairs, and operations needed a row."""

    mean_error: float
    largest_error: float
    operations: float


def attribute(work: Workload, method: MethodSettings) -> Attributed:
    """Attributes every row's gold class; statistics for the store are left out."""
    encoder, errors, operations = work.encoder, [], 0.0
    for chunk in work.chunks:
        trace = encoder.trace(collate(chunk.examples, encoder.pad_token_id, encoder.device))
        labels = torch.tensor([work.label(example) for example in chunk.examples])
        lengths = [example.n_tokens for example in chunk.examples]
        operations += sum(clean(work.shape, length) for length in lengths)
        items = Items(torch.arange(len(labels)), labels)
        for result in attribute_layers(trace, items, method, work.batch_tokens):
            errors.append(result.completeness_error.abs().numpy())
            for length, nodes in zip(lengths, result.nodes.tolist(), strict=True):
                operations += _replays(work, method, nodes, result.layer, length)
    found = np.concatenate(errors)
    return Attributed(float(found.mean()), float(found.max()), operations / len(work.rows))


def timed(work: Workload, method: MethodSettings) -> Way:
    """`attribute`, to be timed."""
    return Way(len(work.rows), lambda number: attribute(work, method))


def attribute_for_the_store(work: Workload) -> None:
    """The whole work of a run's worker: certified to the tolerance, with statistics, as Arrow tables."""
    for chunk in work.chunks:
        later = work.worker.compute(chunk)
        if callable(later):
            later()


def _replays(work: Workload, method: MethodSettings, nodes: int, layer: int, length: int) -> float:
    """Operations of the replays; the node at 1 is the clean pass, and F(0) alone is a forward."""
    alphas = [0.0, 1.0]
    if method.quadrature != "adaptive":
        alphas = fixed_rule(method.quadrature, nodes).nodes.tolist()
    whole = replay(work.shape, layer, length) * (nodes - (1.0 in alphas))
    return whole + (0.0 if 0.0 in alphas else replay(work.shape, layer, length, backward=False))
