"""Compares rules and acceptance criteria of the adaptive integral on real checkpoints: docs/attribution.md.

    ATTATTR_REAL_DATA=DIR python benchmarks/adaptivity.py --task sst2 --rows 100

For each (row, layer) every node of both ladders of nested rules is computed once; each criterion then picks
the smallest rule that it accepts. Errors are against the Clenshaw-Curtis rule with 33 nodes, as the largest
error of a per-head maximum (or sum) relative to the largest of the row. Passes are replays per row and layer,
weighted by their cost.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attattr_batch.engine import attribution
from attattr_batch.engine.families import collate
from attattr_batch.engine.path import Items, clean_layers
from attattr_batch.engine.quadrature import Rule, clenshaw_curtis, nested, partial_weights
from attattr_batch.passes.planning import plan_attribution
from attattr_batch.spec import MethodSettings, make_spec

MODELS = {"sst2": "SST-2", "rte": "RTE", "mnli": "MNLI", "mrpc": "MRPC"}
SIZES = tuple(size for size in attribution.ladder(1e-3) if size <= 33)
LADDERS: dict[str, Callable[[int], Rule]] = {"Clenshaw-Curtis": clenshaw_curtis, "Lobatto-Kronrod": nested}
EXACT = clenshaw_curtis(33)


@dataclass(frozen=True)
class Estimate:
    """What one rule gives for one (row, layer), and its error estimates."""

    maxima: Any
    sums: Any
    completeness: float
    path: float
    change: float
    rise: float


@dataclass(frozen=True)
class Pair:
    """One (row, layer): estimates by (ladder, size), and the exact maxima and sums."""

    row: int
    layer: int
    estimates: dict[tuple[str, int], Estimate]
    maxima: Any
    sums: Any


CRITERIA: dict[str, Callable[[Estimate], bool]] = {
    "completeness <= 1e-3": lambda e: e.completeness <= 1e-3,
    "completeness <= 1e-3, change <= 2 %": lambda e: e.completeness <= 1e-3 and e.change <= 0.02,
    "completeness <= 1e-3, change <= 1 %": lambda e: e.completeness <= 1e-3 and e.change <= 0.01,
    "path error <= 1e-3, change <= 10 %": lambda e: e.path <= 1e-3 and e.change <= 0.1,
    "path error <= 5e-4, change <= 10 %": lambda e: e.path <= 5e-4 and e.change <= 0.1,
    "path error <= 5e-4 and 5 % of the rise, change <= 10 %": lambda e: (
        e.path <= min(5e-4, max(0.05 * e.rise, 1e-6)) and e.change <= 0.1
    ),
    "path error <= 2e-4, change <= 10 %": lambda e: e.path <= 2e-4 and e.change <= 0.1,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=MODELS, default="sst2")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--and-row", type=int, action="append", default=[], help="these dev rows as well")
    options = parser.parse_args()
    pairs = list(measure(options.task, options.rows, options.and_row))
    print(f"{options.task}: {len(pairs)} (row, layer) pairs")
    for ladder in LADDERS:
        for name, accepts in CRITERIA.items():
            print(f"{ladder:16} {name:54}", judge(pairs, ladder, accepts))


def measure(task: str, n_rows: int, named: list[int]) -> Iterator[Pair]:
    real = Path(os.environ["ATTATTR_REAL_DATA"])
    spec = make_spec(
        {"task": task, "model": str(real / "models" / MODELS[task]), "data_dir": str(real / "data" / "glue")}
    )
    plan = plan_attribution(spec)
    encoder = plan.work.start().encoder
    chosen = {*np.random.default_rng(1).permutation(len(plan.examples))[:n_rows].tolist(), *named}
    examples = sorted((plan.examples[i] for i in chosen), key=lambda example: example.n_tokens)
    outputs = torch.tensor(plan.work.outputs)
    for start in range(0, len(examples), 4):
        rows = examples[start : start + 4]
        trace = encoder.trace(collate(rows, encoder.pad_token_id, encoder.device))
        items = Items(torch.arange(len(rows)), outputs[torch.tensor([row.gold for row in rows])])
        for layer, clean in enumerate(clean_layers(trace, items)):
            integral = attribution._LayerIntegral(trace, layer, items, clean, MethodSettings(), 4096)
            yield from layer_pairs(integral, [row.example_id for row in rows])


def layer_pairs(integral: Any, rows: list[int]) -> Iterator[Pair]:
    rules = {(name, size): ladder(size) for name, ladder in LADDERS.items() for size in SIZES}
    alphas = sorted({alpha for rule in rules.values() for alpha in rule.nodes.tolist()})
    nodes = integral._replay(alphas, integral.everything, "float32")
    slopes = (nodes.gradient * integral.context[integral.items.rows]).sum((2, 3)).double().numpy()
    values = nodes.value.double().numpy()

    def scores(rule: Rule) -> Any:
        weights = torch.tensor(rule.weights, dtype=torch.float32)[:, None, None, None]
        at = [alphas.index(alpha) for alpha in rule.nodes.tolist()]
        return integral._scores((weights * nodes.gradient[at]).sum(0), integral.everything).numpy()

    found = {key: scores(rule) for key, rule in rules.items()}
    exact = scores(EXACT)
    for i, row in enumerate(rows):
        estimates = {}
        for (name, size), rule in rules.items():
            if size == SIZES[0]:
                continue
            at = [alphas.index(alpha) for alpha in rule.nodes.tolist()]
            mine, before = found[name, size][i], found[name, SIZES[SIZES.index(size) - 1]][i]
            rises = values[at, i] - values[0, i]
            path = abs(partial_weights(rule.nodes) @ slopes[at, i] - rises)
            change = abs(mine.max((1, 2)) - before.max((1, 2))).max() / max(abs(mine).max(), 1e-6)
            estimates[name, size] = Estimate(
                mine.max((1, 2)), mine.sum((1, 2)), path[-1], path.max(), change, abs(rises).max()
            )
        yield Pair(row, integral.layer, estimates, exact[i].max((1, 2)), exact[i].sum((1, 2)))


def judge(pairs: list[Pair], ladder: str, accepts: Callable[[Estimate], bool]) -> str:
    n_layers = 1 + max(pair.layer for pair in pairs)
    largest = {
        (kind, row): max(abs(getattr(pair, kind)).max() for pair in pairs if pair.row == row)
        for kind in ("maxima", "sums")
        for row in {pair.row for pair in pairs}
    }
    passes, cost = [], []
    errors: dict[str, list[float]] = {"maxima": [], "sums": []}
    of_layer = [0.0]
    for pair in pairs:
        size = next((n for n in SIZES[1:] if accepts(pair.estimates[ladder, n])), SIZES[-1])
        passes.append(size - 1)  # the node at 1 is the clean pass
        cost.append(max(n_layers - 1 - pair.layer, 0.05))
        for kind, found in errors.items():
            estimate = getattr(pair.estimates[ladder, size], kind)
            found.append(abs(estimate - getattr(pair, kind)).max() / largest[kind, pair.row])
        if (layer_largest := abs(pair.maxima).max()) > 1e-6:
            off = abs(pair.estimates[ladder, size].maxima - pair.maxima).max()
            of_layer.append(off / layer_largest)
    worst = ", ".join(f"{kind} {max(found):.1e}" for kind, found in errors.items())
    return (
        f"passes {np.average(passes, weights=cost):.2f}, largest error: {worst};"
        f" maxima relative to their own layer's largest {max(of_layer):.1e}"
    )


if __name__ == "__main__":
    main()
