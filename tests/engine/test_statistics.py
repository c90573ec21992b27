"""Statistics against a slow reference in plain Python, on matrices that no model made.

The reference sees real tokens only, so equality also says that nothing depends on padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from attributing import attribute, gold_and_predicted
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import reference_gradient
from torch import Tensor

from attattr_batch.engine.attribution import LayerAttribution, Method
from attattr_batch.engine.families import Batch
from attattr_batch.engine.statistics import (
    Columns,
    ItemNames,
    Keep,
    full_scores,
    head_rows,
    layer_rows,
    tree_tops,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Made-up results of one layer; item i stands for batch row rows[i]."""

    result: LayerAttribution
    batch: Batch
    names: ItemNames
    lengths: tuple[int, ...]

    def entries(self, item: int, head: int | None = None) -> list[tuple[float, int, int]]:
        """(score, query, key) of real tokens; of one head, or summed over heads."""
        matrix = full_scores(self.result)[item]
        chosen = matrix.sum(0) if head is None else matrix[head]
        n = self.lengths[int(self.names.rows[item])]
        return [(float(chosen[q, k]), q, k) for q in range(n) for k in range(n)]


def made(
    lengths: tuple[int, ...],
    *,
    seed: int = 0,
    n_heads: int = 2,
    reach: int | None = None,
    shift: float = 0.0,
) -> Case:
    """Random scores around `shift`, zero where a query cannot reach and at padding."""
    generator = torch.Generator().manual_seed(seed)
    n_rows, n_tokens = len(lengths), max(lengths)
    rows = torch.tensor([*range(n_rows), 0])
    keep = torch.arange(n_tokens) < torch.tensor(lengths)[:, None]
    logits = torch.randn((n_rows, n_heads, n_tokens, n_tokens), generator=generator)
    attention = logits.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
    scores = torch.randn((len(rows), n_heads, n_tokens, n_tokens), generator=generator) + shift
    scores *= (keep[:, :, None] & keep[:, None, :])[rows][:, None]

    def per_item(*shape: int) -> Tensor:
        return torch.rand((len(rows), *shape), generator=generator) * 0.9 + 0.05

    result = LayerAttribution(
        layer=3,
        attention=attention,
        scores=scores[:, :, :reach],
        inner=per_item(n_heads) - 0.5,
        f_full=per_item(),
        f_zero=per_item(),
        completeness_error=per_item() - 0.5,
        path_error=torch.full((len(rows),), torch.nan) if seed % 2 else per_item(),
        agreement_error=torch.full((len(rows),), torch.nan) if seed % 2 else per_item(),
        nodes=torch.arange(len(rows)) + 5,
    )
    ids = torch.randint(0, 100, (n_rows, n_tokens), generator=generator)
    names = ItemNames(np.arange(70, 70 + len(rows), dtype=np.uint32), ["gold"] * n_rows + ["predicted"], rows)
    return Case(result, Batch(ids, keep, None), names, lengths)


def as_rows(columns: Columns) -> list[Row]:
    """Columns to rows; a masked value is None."""
    lengths = {len(values) for values in columns.values()}
    assert len(lengths) == 1
    lists = {name: values.tolist() for name, values in columns.items()}  # masked arrays give None
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def identity(case: Case, item: int) -> Row:
    target = "predicted" if item == len(case.names.rows) - 1 else "gold"
    return {"example_id": 70 + item, "layer": 3, "target": target}


def largest_first(entries: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    return sorted(entries, key=lambda entry: (-entry[0], entry[1], entry[2]))


def slow_head_rows(case: Case, top_k: int) -> tuple[list[Row], list[Row]]:
    heads, edges = [], []
    for item, row in enumerate(case.names.rows.tolist()):
        n = case.lengths[row]
        for head in range(case.result.scores.shape[1]):
            ordered = largest_first(case.entries(item, head))
            positive = [entry for entry in ordered if entry[0] > 0]
            weights = case.result.attention[row, head, :n, :n].tolist()
            top = positive[:top_k]
            positive_sum = sum(value for value, _, _ in positive)
            first, second = ordered[:2]
            heads.append(
                identity(case, item)
                | {
                    "head": head,
                    "attr_max": first[0],
                    "attr_max_query": first[1] if first[0] > 0 else None,
                    "attr_max_key": first[2] if first[0] > 0 else None,
                    "attr_second": second[0],
                    "attr_second_query": second[1] if second[0] > 0 else None,
                    "attr_second_key": second[2] if second[0] > 0 else None,
                    "attr_sum": sum(value for value, _, _ in ordered),
                    "attr_positive_sum": positive_sum,
                    "attn_max": max(max(line) for line in weights),
                    "attn_confidence": sum(max(line) for line in weights) / n,
                    "taylor": abs(float(case.result.inner[item, head]) / float(case.result.f_full[item])),
                    "kept_mass": sum(value for value, _, _ in top) / positive_sum if positive else 1.0,
                }
            )
            for rank, (value, query, key) in enumerate(top):
                edges.append(
                    identity(case, item)
                    | {
                        "head": head,
                        "rank": rank,
                        "query_pos": query,
                        "key_pos": key,
                        "query_token": int(case.batch.input_ids[row, query]),
                        "key_token": int(case.batch.input_ids[row, key]),
                        "attr": value,
                        "attn": weights[query][key],
                    }
                )
    return heads, edges


def slow_layer_rows(case: Case, keep: Keep, last: bool) -> tuple[list[Row], list[Row]]:
    layers, edges = [], []
    result = case.result
    for item in range(len(case.names.rows)):
        ordered = largest_first(case.entries(item))
        off_first = max(value for value, query, _ in ordered if query > 0)
        scale = off_first if off_first > 0 else max(0.0, ordered[0][0])
        floor = 0.0 if last else scale * keep.floor
        kept = [entry for entry in ordered if entry[0] > 0 and entry[0] >= floor][: keep.cap]
        positive_sum = sum(value for value, _, _ in ordered if value > 0)
        known = not result.path_error[item].isnan()
        layers.append(
            identity(case, item)
            | {
                "f_full": float(result.f_full[item]),
                "f_zero": float(result.f_zero[item]),
                "completeness_error": float(result.completeness_error[item]),
                "path_error": float(result.path_error[item]) if known else None,
                "agreement_error": float(result.agreement_error[item]) if known else None,
                "nodes": int(result.nodes[item]),
                "off_first_max": off_first,
                "edge_floor": floor,
                "kept_mass": sum(v for v, _, _ in kept) / positive_sum if positive_sum > 0 else 1.0,
            }
        )
        for value, query, key in kept:
            edges.append(identity(case, item) | {"query_pos": query, "key_pos": key, "attr": value})
    return layers, edges


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            same = pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value
            assert one[name] == same, name


LENGTHS = st.lists(st.integers(2, 7), min_size=1, max_size=3).map(tuple)
SHIFTS = st.sampled_from([0.0, -1.0, -100.0])
"""Of the scores: mixed signs, mostly negative, all negative."""


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(0, 99), st.sampled_from([None, 1]), SHIFTS, st.integers(1, 60))
def test_rows_of_heads(
    lengths: tuple[int, ...], seed: int, reach: int | None, shift: float, top_k: int
) -> None:
    case = made(lengths, seed=seed, reach=reach, shift=shift)
    found = head_rows(case.result, full_scores(case.result), case.batch, case.names, Keep(top_k=top_k))
    expected = slow_head_rows(case, top_k)
    for rows, wanted in zip(found, expected, strict=True):
        assert_same(as_rows(rows), wanted)


@settings(deadline=None, max_examples=40)
@given(
    LENGTHS,
    st.integers(0, 99),
    st.sampled_from([None, 1]),
    SHIFTS,
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([1, 4, 512]),
    st.booleans(),
)
def test_rows_of_layers(
    lengths: tuple[int, ...],
    seed: int,
    reach: int | None,
    shift: float,
    floor: float,
    cap: int,
    last: bool,
) -> None:
    case, keep = made(lengths, seed=seed, reach=reach, shift=shift), Keep(floor=floor, cap=cap)
    summed = full_scores(case.result).sum(1)
    found = layer_rows(case.result, summed, case.batch, case.names, keep, last)
    for rows, wanted in zip(found, slow_layer_rows(case, keep, last), strict=True):
        assert_same(as_rows(rows), wanted)


def test_the_last_layer_keeps_every_positive_edge() -> None:
    case = made((6, 4), reach=1)
    summed = full_scores(case.result).sum(1)
    layers, edges = layer_rows(case.result, summed, case.batch, case.names, Keep(floor=0.9), last=True)
    assert len(edges["attr"]) == int((summed > 0).sum())
    np.testing.assert_allclose(layers["kept_mass"], 1, rtol=1e-6)
    assert layers["kept_mass"].max() <= 1
    _, above = layer_rows(case.result, summed, case.batch, case.names, Keep(floor=0.9), last=False)
    assert len(above["attr"]) < len(edges["attr"])


def test_equal_scores_rank_by_position() -> None:
    case = made((4,), n_heads=1)
    case.result.scores[:] = -1.0
    for query, key in [(3, 1), (0, 2), (2, 0), (1, 3)]:
        case.result.scores[0, 0, query, key] = 0.5
    case.result.scores[0, 0, 2, 2] = 0.75
    scores = full_scores(case.result)
    heads, edges = head_rows(case.result, scores, case.batch, case.names, Keep(top_k=5))
    places = list(zip(edges["query_pos"].tolist(), edges["key_pos"].tolist(), strict=True))
    assert places == [(2, 2), (0, 2), (1, 3), (2, 0), (3, 1)]
    assert heads["attr_second"][0] == 0.5
    assert (heads["attr_second_query"][0], heads["attr_second_key"][0]) == (0, 2)


def test_matrices_without_a_positive_entry() -> None:
    case = made((5, 3), shift=-100.0)
    scores = full_scores(case.result)
    heads, edges = head_rows(case.result, scores, case.batch, case.names, Keep())
    assert len(edges["attr"]) == 0
    assert (heads["attr_max"] < -50).all(), "padding has won"
    assert np.ma.getmaskarray(heads["attr_max_query"]).all()
    assert (heads["kept_mass"] == 1).all()
    layers, layer_edges = layer_rows(case.result, scores.sum(1), case.batch, case.names, Keep(), False)
    assert len(layer_edges["attr"]) == 0
    assert (layers["off_first_max"] < -50).all()
    assert (layers["edge_floor"] == 0).all()


@pytest.mark.parametrize("kind", ["bert", "albert", "distilbert", "modernbert", "deberta-v2"])
def test_taylor_is_attention_times_the_gradient_of_the_cross_entropy(kind: str) -> None:
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    inputs = {name: tensor[items.rows] for name, tensor in batch.model_inputs().items()}
    targets = ["gold"] * 3 + ["predicted"] * 3
    names = ItemNames(items.rows.numpy().astype(np.uint32), targets, items.rows)
    slow = reference_gradient(model, inputs, lambda logits: cross_entropy(logits, items.classes))
    for result, (attention, gradient) in zip(
        attribute(model, batch, items, Method("gauss-legendre", 1)), slow, strict=True
    ):
        heads, _ = head_rows(result, full_scores(result), batch, names, Keep())
        expected = (attention * gradient).sum((2, 3)).abs().flatten().numpy()
        np.testing.assert_allclose(heads["taylor"], expected, rtol=1e-3, atol=1e-5 * expected.max())


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, classes, reduction="sum")


def slow_tree_top(total: Tensor) -> tuple[int, float]:
    """The released code's rule, entry by entry."""
    n = len(total)
    maximum = max(float(value) for value in total.flatten())
    best, mass = -1, 0.0
    for query in range(1, n):
        line = [float(total[query, key]) for key in range(n) if key != query]
        row_sum = sum(value / maximum for value in line if value > 0) if maximum > 0 else 0.0
        if row_sum > mass:
            best, mass = query, row_sum
    return best, mass


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 8), st.integers(0, 99), SHIFTS, st.integers(0, 3))
def test_tree_tops(n_tokens: int, seed: int, shift: float, padding: int) -> None:
    total = torch.randn((3, n_tokens, n_tokens), generator=torch.Generator().manual_seed(seed)) + shift
    tops, mass = tree_tops(torch.nn.functional.pad(total, (0, padding, 0, padding)))
    for item in range(3):
        expected_top, expected_mass = slow_tree_top(total[item])
        assert tops[item] == expected_top
        assert mass[item] == pytest.approx(expected_mass, rel=1e-5)


def test_tree_top_by_hand() -> None:
    total = torch.zeros((1, 3, 3))
    total[0] = torch.tensor([[9.0, 9.0, 9.0], [1.0, 4.0, -5.0], [2.0, 1.0, 8.0]])
    tops, mass = tree_tops(total)
    # Row 0 and the diagonal do not count: row 1 has 1 / 9, row 2 has 3 / 9.
    assert tops.tolist() == [2]
    assert mass[0] == pytest.approx(3 / 9)
