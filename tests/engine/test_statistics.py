"""Statistics against a slow reference in plain Python, on matrices that no model made.

The reference sees real tokens only, so equality also says that nothing depends on padding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, gold_and_predicted
from helpers.naive import reference_gradient
from helpers.slow_statistics import (
    Row,
    as_rows,
    made,
    slow_head_rows,
    slow_layer_rows,
    slow_peak_rows,
    slow_tree_top,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attattr_batch.engine.path import Items
from attattr_batch.engine.rows import ItemNames, head_rows, layer_rows, peak_rows
from attattr_batch.engine.statistics import Statistics, full_scores, tree_tops
from attattr_batch.spec import MethodSettings

ONE_NODE = MethodSettings(quadrature="gauss-legendre", nodes=1)


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            same = pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value
            assert one[name] == same, name


LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
SHIFTS = st.sampled_from([0.0, -1.0, -100.0])
"""Of the scores: mixed signs, mostly negative, all negative."""


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 99), st.sampled_from([None, 1]), SHIFTS, st.integers(1, 60))
def test_rows_of_heads(
    lengths: tuple[int, ...], seed: int, reach: int | None, shift: float, top_k: int
) -> None:
    case = made(lengths, seed=seed, reach=reach, shift=shift)
    found = head_rows(case.told(top_k), case.names, top_k)
    expected = slow_head_rows(case, top_k)
    for rows, wanted in zip(found, expected, strict=True):
        assert_same(as_rows(rows), wanted)


@settings(max_examples=40)
@given(
    LENGTHS,
    st.integers(0, 99),
    st.sampled_from([None, 1]),
    SHIFTS,
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([1, 4, 512]),
)
def test_rows_of_layers(
    lengths: tuple[int, ...],
    seed: int,
    reach: int | None,
    shift: float,
    floor: float,
    cap: int,
) -> None:
    case = made(lengths, seed=seed, reach=reach, shift=shift)
    found = layer_rows(case.told(cap=cap), case.names, np.array([floor]))
    for rows, wanted in zip(found, slow_layer_rows(case, floor, cap), strict=True):
        assert_same(as_rows(rows), wanted)


@settings(max_examples=40)
@given(LENGTHS, st.integers(0, 99))
def test_rows_of_attention_peaks(lengths: tuple[int, ...], seed: int) -> None:
    case = made(lengths, seed=seed)
    found = peak_rows(case.told(), np.arange(70, 70 + len(lengths), dtype=np.uint32), max(lengths))
    assert_same(as_rows(found), slow_peak_rows(case))


def test_the_strongest_layer_has_the_attention_peaks() -> None:
    case = made((6,))
    statistics = Statistics(case.batch, case.rows, 5, 512)
    for layer, factor in enumerate((0.5, 1.0, 0.75)):
        changed = replace(case.result, layer=layer, attention=factor * case.result.attention)
        statistics.add(changed)
    found = peak_rows(statistics.told(), np.array([70], np.uint32), 6)
    assert as_rows(found) == [
        row | {"layer": 1} for row in as_rows(peak_rows(case.told(), np.array([70], np.uint32), 6))
    ]


def test_a_floor_of_zero_keeps_every_positive_edge() -> None:
    case = made((6, 4), reach=1)
    summed = full_scores(case.result).sum(1)
    layers, edges = layer_rows(case.told(), case.names, np.array([0.0]))
    assert len(edges["attr"]) == int((summed > 0).sum())
    np.testing.assert_allclose(layers["kept_mass"], 1, rtol=1e-6)
    assert layers["kept_mass"].max() <= 1
    _, above = layer_rows(case.told(), case.names, np.array([0.9]))
    assert len(above["attr"]) < len(edges["attr"])


def test_equal_scores_rank_by_position() -> None:
    case = made((4,), n_heads=1)
    case.result.scores[:] = -1.0
    for query, key in [(3, 1), (0, 2), (2, 0), (1, 3)]:
        case.result.scores[0, 0, query, key] = 0.5
    case.result.scores[0, 0, 2, 2] = 0.75
    heads, edges = head_rows(case.told(), case.names, 5)
    places = list(zip(edges["query_pos"].tolist(), edges["key_pos"].tolist(), strict=True))
    assert places == [(2, 2), (0, 2), (1, 3), (2, 0), (3, 1)]
    assert heads["attr_second"][0] == 0.5
    assert (heads["attr_second_query"][0], heads["attr_second_key"][0]) == (0, 2)


def test_matrices_without_a_positive_entry() -> None:
    case = made((5, 3), shift=-100.0)
    heads, edges = head_rows(case.told(), case.names, 5)
    assert len(edges["attr"]) == 0
    assert (heads["attr_max"] < -50).all(), "padding has won"
    assert np.ma.getmaskarray(heads["attr_max_query"]).all()
    assert (heads["kept_mass"] == 1).all()
    layers, layer_edges = layer_rows(case.told(), case.names, np.array([0.05]))
    assert len(layer_edges["attr"]) == 0
    assert (layers["off_first_max"] < -50).all()
    assert (layers["edge_floor"] == 0).all()


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_equal_entries_at_the_cut_the_first_in_place_are_kept(top_k: int) -> None:
    """torch's topk takes any of them, and others for another k or on another device."""
    case = made((64,), n_heads=1)
    case.result.scores[:] = -1.0
    case.result.scores[0, 0, 5:, ::7] = 0.5
    _, edges = head_rows(case.told(top_k), case.names, top_k)
    places = list(zip(edges["query_pos"].tolist(), edges["key_pos"].tolist(), strict=True))
    assert places == [(5, 7 * place) for place in range(top_k)]
    _, edges = layer_rows(case.told(cap=20), case.names, np.array([0.05]))
    places = list(zip(edges["query_pos"].tolist(), edges["key_pos"].tolist(), strict=True))
    assert places == [(5 + place // 10, 7 * (place % 10)) for place in range(20)]


@pytest.mark.parametrize("kind", ["bert", "albert", "distilbert", "modernbert", "deberta-v2"])
def test_taylor_is_attention_times_the_gradient_of_the_cross_entropy(kind: str) -> None:
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    inputs = {name: tensor[items.rows] for name, tensor in batch.model_inputs().items()}
    targets = ["gold"] * 3 + ["predicted"] * 3
    tokens = batch.input_ids[items.rows].numpy().astype(np.uint32)
    names = ItemNames(items.rows.numpy().astype(np.uint32), targets, tokens)
    slow = reference_gradient(model, inputs, lambda logits: cross_entropy(logits, items.classes))
    for result, (attention, gradient) in zip(
        attribute(model, batch, items, ONE_NODE),
        slow,
        strict=True,
    ):
        statistics = Statistics(batch, items.rows, 5, 512)
        statistics.add(result)
        heads, _ = head_rows(statistics.told(), names, 5)
        signed = (attention * gradient).sum((2, 3))  # of -log F, so that it is -1 / F times that of F
        expected = signed.abs().flatten().numpy()
        np.testing.assert_allclose(heads["taylor"], expected, rtol=1e-3, atol=1e-5 * expected.max())
        of_f = (-result.f_full[:, None] * signed).flatten().numpy()
        np.testing.assert_allclose(heads["grad_attn"], of_f, rtol=1e-3, atol=1e-5 * expected.max())


@pytest.mark.parametrize("kind", ["bert", "albert", "modernbert", "deberta-v2"])
def test_taylor_as_released_takes_absolute_values_by_query_of_the_sum_of_class_scores(kind: str) -> None:
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    slow = reference_gradient(model, batch.model_inputs(), torch.Tensor.sum)
    results = attribute(model, batch, items, ONE_NODE)
    for result, (attention, gradient) in zip(results, slow, strict=True):
        expected = (attention * gradient).sum(3).abs().sum(2)[items.rows]
        torch.testing.assert_close(
            result.taylor_released, expected, rtol=1e-3, atol=1e-5 * float(expected.max())
        )


def test_taylor_of_a_saturated_class_keeps_its_digits() -> None:
    """At 1 - F = 4e-7 a float32 softmax has 1 - F to seven percent; at 1e-10 it has 0."""
    for shift in (14.7, 23.0):
        small, large = (
            tiny.classifier("bert", num_labels=2, dtype=dtype) for dtype in (torch.float32, torch.float64)
        )
        batch = tiny.batch("bert", (9,))
        for model in (small, large):
            with torch.no_grad():
                logits = model(**batch.model_inputs()).logits[0]
                model.classifier.bias[0] += shift - (logits[0] - logits[1])
        item = Items(torch.tensor([0]), torch.tensor([0]))
        for one, other in zip(
            *(attribute(model, batch, item, ONE_NODE) for model in (small, large)),
            strict=True,
        ):
            assert 1 - float(other.f_full) < 5e-7
            torch.testing.assert_close(one.taylor.double(), other.taylor, rtol=1e-3, atol=0)


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, classes, reduction="sum")


@settings(max_examples=60)
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
