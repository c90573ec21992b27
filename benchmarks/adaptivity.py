"""Compares acceptance criteria of the adaptive rule on real checkpoints: the table in docs/attribution.md.

    ATTATTR_REAL_DATA=DIR python benchmarks/adaptivity.py --task sst2 --rows 100

For each (row, layer) all 33 Clenshaw-Curtis nodes are computed once; each criterion then picks the smallest
of the rules with 5, 9, 17 and 33 nodes that it accepts. Errors are against the 33-node rule, as the largest
error of a per-head maximum (or sum) relative to the largest of the row.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attattr_batch.engine import attribution
from attattr_batch.engine.families import collate
from attattr_batch.engine.path import Items, clean_nodes
from attattr_batch.engine.quadrature import clenshaw_curtis, partial_weights
from attattr_batch.passes.plan import plan_attribution
from attattr_batch.spec import make_spec

FINEST, SIZES = 33, (5, 9, 17)
MODELS = {"sst2": "SST-2", "rte": "RTE", "mnli": "MNLI"}


@dataclass(frozen=True)
class Pair:
    """One (row, layer): per rule size the per-head maxima and sums, and the two error estimates."""

    row: int
    layer: int
    maxima: dict[int, Any]
    sums: dict[int, Any]
    completeness: dict[int, float]
    path: dict[int, float]
    change: dict[int, float]


CRITERIA: dict[str, Callable[[Pair, int], bool]] = {
    "completeness <= 1e-3": lambda p, n: p.completeness[n] <= 1e-3,
    "and change <= 2 %": lambda p, n: p.completeness[n] <= 1e-3 and p.change[n] <= 0.02,
    "and change <= 1 %": lambda p, n: p.completeness[n] <= 1e-3 and p.change[n] <= 0.01,
    "path <= 2e-4, change <= 10 %": lambda p, n: p.path[n] <= 2e-4 and p.change[n] <= 0.1,
    "path <= 1e-4, change <= 10 %": lambda p, n: p.path[n] <= 1e-4 and p.change[n] <= 0.1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=MODELS, default="sst2")
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args()
    pairs = measure(options.task, options.rows)
    print(f"{options.task}: {len(pairs)} (row, layer) pairs")
    for name, accepts in CRITERIA.items():
        print(f"{name:32}", judge(pairs, accepts))


def measure(task: str, n_rows: int) -> list[Pair]:
    real = Path(os.environ["ATTATTR_REAL_DATA"])
    spec = make_spec(
        {"task": task, "model": str(real / "models" / MODELS[task]), "data_dir": str(real / "data" / "glue")}
    )
    plan = plan_attribution(spec)
    encoder = plan.work.start()._encoder
    chosen = np.random.default_rng(1).permutation(len(plan.encoded))[:n_rows]
    examples = sorted((plan.encoded[i] for i in chosen), key=lambda example: example.n_tokens)
    outputs = torch.tensor(plan.work.outputs)
    pairs: list[Pair] = []
    for start in range(0, len(examples), 4):
        rows = examples[start : start + 4]
        trace = encoder.trace(collate(rows, encoder.pad_token_id, encoder.device))
        items = Items(torch.arange(len(rows)), outputs[torch.tensor([row.gold for row in rows])])
        for layer, clean in enumerate(clean_nodes(trace, items)):
            integral = attribution._LayerIntegral(trace, layer, items, clean, attribution.Method())
            pairs += layer_pairs(integral, [row.example_id for row in rows])
    return pairs


def layer_pairs(integral: Any, rows: list[int]) -> list[Pair]:
    nodes = integral._replay(clenshaw_curtis(FINEST).nodes.tolist(), integral.everything, "float32")
    slopes = (nodes.gradient * integral.context[integral.items.rows]).sum((2, 3)).double().numpy()
    values = nodes.value.double().numpy()
    maxima, sums, path = {}, {}, {}
    for size in (3, *SIZES, FINEST):
        rule, step = clenshaw_curtis(size), (FINEST - 1) // (size - 1)
        weights = torch.tensor(rule.weights, dtype=torch.float32)[:, None, None, None]
        scores = integral._scores((weights * nodes.gradient[::step]).sum(0), integral.everything)
        maxima[size], sums[size] = scores.amax((2, 3)).numpy(), scores.sum((2, 3)).numpy()
        rises = values[::step] - values[0]
        path[size] = abs(partial_weights(rule.nodes) @ slopes[::step] - rises).max(0)
    total = values[-1] - values[0]
    before = dict(zip(SIZES, (3, *SIZES), strict=False))
    return [
        Pair(
            row,
            integral.layer,
            {size: found[i] for size, found in maxima.items()},
            {size: found[i] for size, found in sums.items()},
            {size: abs(sums[size][i].sum() - total[i]) for size in SIZES},
            {size: path[size][i] for size in SIZES},
            {n: abs(maxima[n][i] - maxima[b][i]).max() / abs(maxima[n][i]).max() for n, b in before.items()},
        )
        for i, row in enumerate(rows)
    ]


def judge(pairs: list[Pair], accepts: Callable[[Pair, int], bool]) -> str:
    largest: dict[str, dict[int, float]] = {"maxima": {}, "sums": {}}
    for kind, of_row in largest.items():
        for pair in pairs:
            top = abs(getattr(pair, kind)[FINEST]).max()
            of_row[pair.row] = max(of_row.get(pair.row, 0.0), top)
    n_layers = 1 + max(pair.layer for pair in pairs)
    passes, cost = [], []
    errors: dict[str, list[float]] = {"maxima": [], "sums": []}
    for pair in pairs:
        size = next((n for n in SIZES if accepts(pair, n)), FINEST)
        passes.append(size - 1)  # the node at 1 is the clean pass
        cost.append(max(n_layers - 1 - pair.layer, 0.05))
        for kind, found in errors.items():
            values = getattr(pair, kind)
            found.append(abs(values[size] - values[FINEST]).max() / largest[kind][pair.row])
    worst = {kind: f"{max(found):.1e}" for kind, found in errors.items()}
    return f"passes {np.average(passes, weights=cost):.2f}, largest error {worst}"


if __name__ == "__main__":
    main()
