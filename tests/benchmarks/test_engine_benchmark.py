"""The engine benchmark: what it compares with is right, what it counts is right, and it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import arithmetic
import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, distance
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from attattr_batch.engine.families import collate, encoder_for
from attattr_batch.engine.path import Items, removed_value, replay
from attattr_batch.engine.statistics import full_scores
from attattr_batch.spec import MethodSettings

SHAPE = arithmetic.Shape(3, 16, 24)
LENGTH = 12


def ours(method: MethodSettings) -> list[torch.Tensor]:
    (example,) = tiny.examples((LENGTH,))
    batch = collate([example], 1, torch.device("cpu"))
    items = Items(torch.tensor([0]), torch.tensor([1]))
    return [full_scores(result)[0] for result in attribute(tiny.classifier("bert"), batch, items, method)]


def theirs(way: str, *steps: int) -> list[torch.Tensor]:
    import baselines  # loads Captum, which loads matplotlib

    (example,) = tiny.examples((LENGTH,))
    assert example.token_type_ids is not None
    found: list[torch.Tensor] = getattr(baselines, way)(
        tiny.classifier("bert"), list(example.input_ids), list(example.token_type_ids), 1, *steps
    )
    return [scores[:, :LENGTH, :LENGTH] for scores in found]


@pytest.mark.parametrize(
    ("way", "steps", "method"),
    [
        ("released", (), MethodSettings(quadrature="left-riemann", nodes=20)),
        ("captum", (7,), MethodSettings(quadrature="gauss-legendre", nodes=7)),
    ],
    ids=["released", "captum"],
)
def test_compared_implementations_compute_the_same(
    way: str, steps: tuple[int, ...], method: MethodSettings
) -> None:
    for mine, other in zip(ours(method), theirs(way, *steps), strict=True):
        assert distance(mine, other) < 1e-5


class Counting(TorchDispatchMode):
    """Operations of matrix products; FlopCounterMode itself cannot count a backward down to a leaf."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def of_the_authors(shape: arithmetic.Shape, tokens: int, copies: int) -> int:
    """Operations of the authors' code for one row: copies exist only from the values of a layer upward."""
    linear = 2 * tokens * shape.width * (4 * shape.width + 2 * shape.inner)
    above_values = 2 * tokens * shape.width * (shape.width + 2 * shape.inner)
    attention, head = 4 * tokens**2 * shape.width, 2 * shape.width**2 + 2 * shape.width * 3
    total = 0
    for layer in range(shape.layers):
        clean = shape.layers * (linear + attention) + head
        below = layer * (linear + attention) + (linear - above_values) + attention // 2
        upper = shape.layers - 1 - layer
        forward = attention // 2 + above_values + upper * (linear + attention) + head
        backward = attention // 2 + above_values + upper * (linear + 2 * attention) + head
        total += clean + below + copies * (forward + backward)
    return total


@pytest.mark.parametrize(
    ("way", "steps", "copies"),
    [("released", (), 20), ("captum", (7,), 7)],
)
def test_compared_implementations_cost_no_more_than_the_authors_code(
    way: str, steps: tuple[int, ...], copies: int
) -> None:
    """A baseline that copies the row from the embedding upward takes a third more than their code does."""
    model = tiny.classifier("bert")
    tokens = min(128, model.config.max_position_embeddings) if way == "released" else LENGTH
    with Counting() as counted:
        theirs(way, *steps)
    assert counted.total == of_the_authors(SHAPE, tokens, copies)


@pytest.mark.parametrize("layer", range(SHAPE.layers))
def test_operations_of_a_replay_are_those_that_torch_counts(layer: int) -> None:
    trace = encoder_for(tiny.classifier("bert")).trace(
        collate(tiny.examples((LENGTH,)), 1, torch.device("cpu"))
    )
    items = Items(torch.tensor([0]), torch.tensor([1]))
    with Counting() as forward:
        removed_value(trace, layer, items, 4096)
    with Counting() as whole:
        replay(trace, layer, items, torch.tensor([0.5]), 4096)
    head = 2 * (SHAPE.width**2 + SHAPE.width * 3)  # pooler and classifier are left out of the count
    # torch knows no count for the fused kernel of the CPU, forward or backward.
    above = range(layer + 1, SHAPE.layers)
    fused = sum(4 * (1 if upper == SHAPE.layers - 1 else LENGTH) * LENGTH * SHAPE.width for upper in above)
    assert forward.total - head + fused == arithmetic.replay(SHAPE, layer, LENGTH, backward=False)
    assert whole.total - 2 * head + 3 * fused == arithmetic.replay(SHAPE, layer, LENGTH)


def test_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import engine

    parts = [argument for part in ("sst2", "growth", "memory") for argument in ("--part", part)]
    monkeypatch.setattr(sys, "argv", ["engine.py", "--smoke", "--out", str(tmp_path), *parts])
    monkeypatch.delenv("ATTATTR_REAL_DATA", raising=False)
    engine.main()
    files = [tmp_path / f"engine-{part}.json" for part in ("sst2", "growth", "memory")]
    task, growth, memory = (json.loads(file.read_text())["tables"][0] for file in files)
    for part in (task, growth, memory):
        assert all(len(row) == len(part["columns"]) for row in part["rows"])
    by_name = {row[0]: dict(zip(task["columns"], row, strict=True)) for row in task["rows"]}
    assert by_name["released"]["x released"] == "1.0 (1.0 to 1.0)"
    errors = {name: row["completeness error mean / largest"].split(" / ") for name, row in by_name.items()}
    bound = np.array(errors["released"], float)
    fixed = [name for name in by_name if name.startswith("ours, gauss")]
    assert len(fixed) == 1
    assert (np.array(errors[fixed[0]], float) <= bound).all()
    # What is computed for the store besides has no ratio to implementations that do not compute it.
    for name, row in by_name.items():
        assert bool(row["x released"]) != name.endswith("with all rows for the store"), name


@pytest.mark.parametrize(("count", "rounds"), [(64, 7), (12, 7), (2, 1)])
def test_the_rows_of_each_round_are_as_long_as_all_rows_on_average(count: int, rounds: int) -> None:
    import engine

    rows = list(tiny.examples(tuple(2 + i % 30 for i in range(count))))
    chosen = [engine.rows_of_round(rows, number, rounds) for number in range(rounds)]
    for few in chosen:
        assert engine.mean_length(few) == pytest.approx(engine.mean_length(rows), rel=0.1)
    places = {rows.index(row) for few in chosen for row in few}
    assert len(places) >= min(count // 2, 2 * rounds - 2)
