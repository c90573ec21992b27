"""Compares the adaptive integral with the rules it had before, on real checkpoints: docs/attribution.md.

    ATTATTR_REAL_DATA=DIR python benchmarks/adaptivity.py --task sst2 --rows 60

Before, larger and larger nested rules were tried: 5, 9 and 17 nodes, then the Clenshaw-Curtis rules
with 33, 65 and 129, with the same criteria. Errors are those of per-head maxima, against the integral at
a hundredth of the tolerance. Replays are weighted by their cost: the layers from there up.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attattr_batch.engine.adaptive import LayerIntegral
from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Trace, collate
from attattr_batch.engine.layer import Layer
from attattr_batch.engine.path import Items, clean_layers
from attattr_batch.engine.precision import Attempt
from attattr_batch.engine.quadrature import Rule, nested
from attattr_batch.engine.transfer import to_host
from attattr_batch.passes.planning import plan_attribution
from attattr_batch.spec import MethodSettings, make_spec

MODELS = {"sst2": "SST-2", "rte": "RTE", "mnli": "MNLI", "mrpc": "MRPC"}
BEFORE = (5, 9, 17, 33, 65, 129)
STEEP = 33
"""Pairs that took as many nodes before are told of apart."""
BATCH = 16


@dataclass(frozen=True)
class Found:
    """What one way of integrating gave for all items of one layer."""

    nodes: Any
    certified: Any
    maxima: Any


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=MODELS, default="sst2")
    parser.add_argument("--rows", type=int, default=60, help="dev rows, drawn at random")
    parser.add_argument("--and-row", type=int, action="append", default=[], help="these dev rows as well")
    options = parser.parse_args()
    layers: dict[str, list[list[Found]]] = {"before": [], "now": [], "exact": []}
    for traced, items in batches(options.task, options.rows, options.and_row):
        layers["before"].append(nested_alone(traced(), items))
        for name, tolerance in (("now", 1e-3), ("exact", 1e-5)):
            layers[name].append(adaptive(traced(), items, tolerance))
    parts = {name: joined(found) for name, found in layers.items()}
    print(f"{options.task}: {parts['now'].nodes.size} (row, layer) pairs")
    steep = parts["before"].nodes >= STEEP
    for name in ("before", "now"):
        print(f"{name:6}", told(parts[name], parts["exact"], steep))


def batches(task: str, n_rows: int, named: list[int]) -> Iterator[tuple[Callable[[], Trace], Items]]:
    """For each batch what traces it (each way of integrating uses the graph up), and its items."""
    real = Path(os.environ["ATTATTR_REAL_DATA"])
    spec = make_spec(
        {"task": task, "model": str(real / "models" / MODELS[task]), "data_dir": str(real / "data" / "glue")}
    )
    plan = plan_attribution(spec)
    encoder = plan.work.start().encoder
    chosen = {*np.random.default_rng(1).permutation(len(plan.examples))[:n_rows].tolist(), *named}
    examples = sorted((plan.examples[i] for i in chosen), key=lambda example: example.n_tokens)
    outputs = torch.tensor(plan.work.outputs)
    for start in range(0, len(examples), BATCH):
        rows = examples[start : start + BATCH]
        items = Items(torch.arange(len(rows)), outputs[torch.tensor([row.gold for row in rows])])
        batch = collate(rows, encoder.pad_token_id, encoder.device)
        yield partial(encoder.trace, batch), items


def adaptive(trace: Trace, items: Items, tolerance: float) -> list[Found]:
    return [
        Found(one.nodes.numpy(), one.certified.numpy(), one.scores.amax((2, 3)).numpy())
        for one in attribute_layers(trace, items, MethodSettings(tolerance=tolerance))
    ]


def nested_alone(trace: Trace, items: Items) -> list[Found]:
    """The rules of `BEFORE`, with the criteria of today; each is judged by the one before it, of its kind."""
    found = []
    for number, clean in enumerate(clean_layers(trace, items)):
        layer = Layer(trace, number, items, clean, batch_tokens=4096)
        integral = LayerIntegral(layer, MethodSettings().tolerance)
        for size in BEFORE:
            rule_of = nested if size <= 17 else clenshaw_curtis
            if size == 33:  # has few nodes of the rules before
                del integral._nodes[1:]
            coarser = rule_of((size + 1) // 2)
            integral.judge_rule(to_host(integral.try_rule(Attempt(rule_of(size), coarser, "float32"))))
            if not len(integral.active):
                break
        left = torch.from_numpy(integral.active)
        integral._gradient = integral._gradient.index_copy(0, left, integral._estimates[0][: len(left)])
        result = layer.attribution(*integral.result())
        nodes = np.where(result.certified, integral._found["nodes"], BEFORE[-1]).astype(int)
        found.append(Found(nodes, result.certified.numpy(), result.scores.amax((2, 3)).numpy()))
    return found


def clenshaw_curtis(n: int) -> Rule:
    """The n Chebyshev extrema, n odd, both ends included: exact for polynomials of degree n - 1."""
    intervals = n - 1
    theta = np.pi * np.arange(n) / intervals
    weights = np.ones(n)
    for k in range(1, intervals // 2 + 1):
        factor = 1.0 if 2 * k == intervals else 2.0
        weights -= factor * np.cos(2 * k * theta) / (4 * k * k - 1)
    weights /= intervals
    weights[[0, -1]] /= 2
    return Rule((1 - np.cos(theta)) / 2, weights)


def joined(found: list[list[Found]]) -> Found:
    """All rows: nodes and certified [row, layer], maxima [row, layer, head]."""
    parts = (
        np.concatenate([np.stack([getattr(one, name) for one in layers], 1) for layers in found])
        for name in ("nodes", "certified", "maxima")
    )
    return Found(*parts)


def told(found: Found, exact: Found, steep: Any) -> str:
    n_layers = found.nodes.shape[1]
    cost = np.maximum(n_layers - 1 - np.arange(n_layers), 0.05)
    replays = found.nodes - 1  # the node at 1 is the clean pass
    off = np.abs(found.maxima - exact.maxima).max(2)
    of_row = off / np.abs(exact.maxima).max((1, 2))[:, None]
    of_layer = np.abs(exact.maxima).max(2)
    apart = f"; {replays[steep].mean():.1f} for the {steep.sum()} steep pairs" if steep.any() else ""
    return (
        f"replays {np.average(replays, weights=np.broadcast_to(cost, replays.shape)):.2f} a pair{apart},"
        f" {replays.max()} at most; {np.sum(~found.certified)} pairs not certified; largest error of a head"
        f" {of_row.max():.1e} of the row's largest, {(off / of_layer)[of_layer > 1e-6].max():.1e} of the"
        " layer's"
    )


if __name__ == "__main__":
    main()
