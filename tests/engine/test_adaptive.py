"""The adaptive rule: right where fixed rules are wrong, and honest about how it stopped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, distance, gold_and_predicted, replayed_nodes, scores

from attattr_batch.choices import Quadrature
from attattr_batch.engine import layer as layer_module
from attattr_batch.engine import path
from attattr_batch.engine.adaptive import AGREEMENT, PATH_SHARE, REFINED_AGREEMENT, RISE_SHARE, change
from attattr_batch.engine.families import Batch, Trace, encoder_for
from attattr_batch.engine.layer import LayerAttribution
from attattr_batch.engine.mesh import MOST_NODES, SHARE
from attattr_batch.engine.path import Items, Replayed
from attattr_batch.engine.precision import nested_sizes
from attattr_batch.engine.quadrature import NESTED_SIZES, nested
from attattr_batch.spec import MethodSettings

LENGTHS = (9, 5, 12, 7, 10, 6)
LEVELS = nested_sizes(1e-3)[1:]


@cache
def steep() -> tuple[Any, Batch, Items]:
    """A very confident classifier: between removed and full attention F nearly jumps."""
    model, batch = tiny.classifier("roberta"), tiny.batch("roberta", LENGTHS)
    with torch.no_grad():
        model.classifier.out_proj.weight *= 20
        model.classifier.out_proj.bias *= 20
        predicted = model(**batch.model_inputs()).logits.argmax(1)
    return model, batch, Items(torch.arange(len(LENGTHS)), predicted)


@cache
def steep_results(quadrature: Quadrature, nodes: int | None = None) -> list[LayerAttribution]:
    return attribute(*steep(), MethodSettings(quadrature=quadrature, nodes=nodes))


def errors_by_item(results: list[LayerAttribution], exact: list[LayerAttribution]) -> torch.Tensor:
    """Largest error of each item, relative to its largest entry over all layers."""
    found, expected = scores(results), scores(exact)
    return (found - expected).abs().amax((0, 2, 3, 4)) / expected.abs().amax((0, 2, 3, 4))


def test_steep_integrands_are_resolved() -> None:
    adaptive = steep_results("adaptive")
    for result in adaptive:
        assert (result.scores.sum((1, 2, 3)) - (result.f_full - result.f_zero)).abs().max() <= 1e-3
    assert errors_by_item(adaptive, steep_results("gauss-legendre", 64)).max() < 2e-3


def test_the_released_rule_fails_on_them() -> None:
    released = steep_results("left-riemann", 20)
    assert errors_by_item(released, steep_results("gauss-legendre", 64)).min() > 2e-3
    assert max(float(result.completeness_error.abs().max()) for result in released) > 0.1


def test_nodes_go_where_they_are_needed() -> None:
    nodes = torch.stack([result.nodes for result in steep_results("adaptive")])
    assert 17 <= nodes.max() <= MOST_NODES
    assert nodes.min() <= 9
    model, batch = tiny.classifier("roberta", initializer_range=0.1), tiny.batch("roberta", LENGTHS)
    easy = attribute(model, batch, gold_and_predicted(model, batch), MethodSettings())
    assert all((result.nodes == LEVELS[0]).all() for result in easy)


def test_every_accepted_pair_meets_all_criteria_and_none_earlier_did() -> None:
    for layer, result in enumerate(steep_results("adaptive")):
        assert result.certified.all()
        asked = torch.where(result.nodes > LEVELS[-1], REFINED_AGREEMENT, AGREEMENT)
        assert (result.agreement_error <= asked * 1e-3).all()
        assert (result.path_error <= PATH_SHARE * 1e-3).all()
        for item, nodes in enumerate(result.nodes.tolist()):
            for size in (level for level in LEVELS if level < nodes):
                path_error, rise = path_error_by_fit(layer, item, size)
                assert (
                    path_error > 0.99 * PATH_SHARE * 1e-3
                    or path_error > 0.99 * RISE_SHARE * 1e-3 * rise
                    or agreement(layer, item, size) > 0.99 * AGREEMENT * 1e-3
                )


def test_a_layer_that_does_little_is_certified_by_what_it_does() -> None:
    """Half the tolerance would be more than all that some of these layers do: off by 22 % of the largest."""
    model, batch = tiny.classifier("bert", seed=38), tiny.batch("bert", LENGTHS)
    with torch.no_grad():
        model.classifier.weight *= 2
    items = Items(torch.arange(len(LENGTHS)).repeat(3), torch.arange(3).repeat_interleave(len(LENGTHS)))
    small = 0
    exact = attribute(model, batch, items, MethodSettings(quadrature="gauss-legendre", nodes=64))
    for found, expected in zip(attribute(model, batch, items, MethodSettings()), exact, strict=True):
        largest = expected.scores.abs().amax((1, 2, 3))
        off = (found.scores - expected.scores).abs().amax((1, 2, 3)) / largest
        assert off[largest > 1e-5].max() < 0.03
        small += int(((expected.f_full - expected.f_zero).abs() < PATH_SHARE * 1e-3).sum())
    assert small > 0


@pytest.mark.parametrize(("tolerance", "sizes"), [(9.9e-3, (3, 5, 9)), (1e-2, (2, 3, 5))])
def test_three_nodes_are_for_loose_tolerances_alone(tolerance: float, sizes: tuple[int, ...]) -> None:
    assert nested_sizes(tolerance)[:3] == sizes


@dataclass(frozen=True)
class OneRule:
    """What one rule gives for all items of one layer."""

    scores: torch.Tensor
    f_zero: torch.Tensor
    completeness_error: torch.Tensor


@cache
def by_rule(layer: int, size: int) -> OneRule:
    """One of the nested rules, from all its nodes at once."""
    model, batch, items = steep()
    trace = encoder_for(model).trace(batch)
    attention, values = (part[items.rows] for part in trace.attention(layer))
    rule = nested(size)
    nodes = replayed_nodes(trace, layer, items, rule.nodes)
    gradient = torch.einsum("k,kiqw->iqw", torch.from_numpy(rule.weights).float(), nodes.gradient)
    by_head = gradient.unflatten(-1, (attention.shape[1], -1))
    found = torch.einsum("iqhw,ihkw->ihqk", by_head, values) * attention[:, :, : gradient.shape[1]]
    error = found.sum((1, 2, 3)) - (steep_results("adaptive")[layer].f_full - nodes.value[0])
    return OneRule(found, nodes.value[0], error)


def agreement(layer: int, item: int, size: int) -> float:
    """Agreement error of one pair by the rule with `size` nodes, another way."""
    sizes = NESTED_SIZES
    coarser = by_rule(layer, sizes[sizes.index(size) - 1]).scores[item]
    mine = by_rule(layer, size).scores[item]
    maxima, before = (one.amax((1, 2)).clamp_min(0) for one in (mine, coarser))
    return float((maxima - before).abs().max() / mine.abs().max())


@cache
def path_error_by_fit(layer: int, item: int, size: int) -> tuple[float, float]:
    """Fits a Chebyshev series to dF/dalpha at the nodes, integrates it, compares it with F.

    Returns:
        The path error, and the largest |F(alpha) - F(0)|.
    """
    model, batch, items = steep()
    trace = encoder_for(model).trace(batch)
    alphas = nested(size).nodes
    one = Items(items.rows[item : item + 1], items.classes[item : item + 1])
    nodes = replayed_nodes(trace, layer, one, alphas)
    context = trace.contexts[layer].detach()[one.rows]
    slopes = (nodes.gradient * context).sum((2, 3))[:, 0].double().numpy()
    fit = np.polynomial.Chebyshev.fit(alphas, slopes, size - 1, domain=[0, 1])
    integral = fit.integ(lbnd=0)(alphas)
    values = nodes.value[:, 0].double().numpy()
    rises = values - values[0]
    return float(np.abs(integral - rises).max()), float(np.abs(rises).max())


def test_padding_does_not_hide_achange() -> None:
    """Of a head without positive entries, padding (exactly 0) would be the maximum."""
    before, current = torch.randn(2, 3, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    before[:, 0], current[:, 0] = -before[:, 0].abs(), -current[:, 0].abs()
    padded = (torch.nn.functional.pad(one, (0, 5, 0, 5)) for one in (current, before))
    found, expected = (change(torch.stack([*pair], 2)) for pair in (padded, (current, before)))
    torch.testing.assert_close(found, expected)


def test_the_result_is_that_of_the_accepted_rule() -> None:
    """Nested nodes are reused, items drop out one by one: each must still get its own rule's sum."""
    for layer, result in enumerate(steep_results("adaptive")):
        for item, nodes in enumerate(result.nodes.tolist()):
            if nodes > LEVELS[-1]:
                continue
            fixed = by_rule(layer, nodes)
            assert (result.scores[item] - fixed.scores[item]).abs().max() < 1e-5
            assert result.f_zero[item] == pytest.approx(float(fixed.f_zero[item]), abs=1e-5)
            assert result.completeness_error[item] == pytest.approx(
                float(fixed.completeness_error[item]), abs=1e-5
            )
            path_error, _ = path_error_by_fit(layer, item, nodes)
            assert result.path_error[item] == pytest.approx(path_error, abs=1e-5)
            change = agreement(layer, item, nodes)
            # Where nothing moves, the largest entry is itself of the order of rounding.
            largest = float(fixed.scores[item].abs().max())
            assert result.agreement_error[item] == pytest.approx(change, rel=1e-2, abs=1e-6 / largest)


def test_a_mesh_is_what_refining_one_pair_by_hand_gives() -> None:
    """The same decisions, nodes and sums, one pair at a time and with numpy's own polynomials."""
    refined = 0
    for layer, result in enumerate(steep_results("adaptive")):
        for item, n_nodes in enumerate(result.nodes.tolist()):
            if n_nodes <= LEVELS[-1]:
                continue
            found, path_error, by_hand = refined_by_hand(layer, item)
            assert found == n_nodes
            assert float(result.path_error[item]) == pytest.approx(path_error, abs=1e-5)
            assert (result.scores[item] - by_hand).abs().max() < 1e-5
            refined += 1
    assert refined >= 5


def refined_by_hand(layer: int, item: int) -> tuple[int, float, torch.Tensor]:
    """Refines one pair until it meets the criteria; returns nodes, path error, scores."""
    model, batch, items = steep()
    trace = encoder_for(model).trace(batch)
    one = Items(items.rows[item : item + 1], items.classes[item : item + 1])
    attention, values = (part[one.rows[0]] for part in trace.attention(layer))
    context = trace.contexts[layer].detach()[one.rows[0]]
    alphas = nested(LEVELS[-1]).nodes.tolist()
    first = True
    while True:
        nodes = replayed_nodes(trace, layer, one, alphas)
        value, gradient = nodes.value[:, 0].numpy(), nodes.gradient[:, 0]
        slopes = (gradient * context).sum((1, 2)).double().numpy()

        def scores(weights: Any, gradient: torch.Tensor = gradient) -> torch.Tensor:
            weighted = torch.einsum("k,kqw->qw", torch.from_numpy(weights).float(), gradient)
            by_head = weighted.unflatten(-1, (attention.shape[0], -1))
            return torch.einsum("qhw,hkw->hqk", by_head, values) * attention[:, : len(weighted)]

        steps, coarser = (steps_by_hand(alphas, size) for size in (7, 5))
        errors = steps @ slopes - np.diff(value)
        asked = min(max(RISE_SHARE * 1e-3 * np.abs(value - value[0]).max(), 1e-6), PATH_SHARE * 1e-3)
        if not first:
            found, path_error = scores(steps.sum(0)), np.abs(np.cumsum(errors)).max()
            maxima, other = (one.amax((1, 2)).clamp_min(0) for one in (found, scores(coarser.sum(0))))
            agrees = (maxima - other).abs().max() <= REFINED_AGREEMENT * 1e-3 * found.abs().max()
            if (path_error <= asked and agrees) or len(alphas) == MOST_NODES:
                return len(alphas), path_error, found
        first = False
        worst = sorted(range(len(errors)), key=lambda k: -abs(errors[k]))[: MOST_NODES - len(alphas)]
        chosen = [k for k in worst if abs(errors[k]) > SHARE * asked] or worst[:1]
        alphas = sorted([*alphas, *((alphas[k] + alphas[k + 1]) / 2 for k in chosen)])


def steps_by_hand(alphas: list[float], size: int) -> Any:
    """Weights of the integrals from node to node, each by the polynomial through `size` nodes around it."""
    weights = np.zeros((len(alphas) - 1, len(alphas)))
    for left in range(len(alphas) - 1):
        start = min(max(left - (size - 2) // 2, 0), len(alphas) - size)
        near = slice(start, start + size)
        for place, unit in enumerate(np.eye(size)):
            basis = np.polynomial.Polynomial.fit(alphas[near], unit, size - 1).integ()
            weights[left, start + place] = basis(alphas[left + 1]) - basis(alphas[left])
    return weights


# Families on the fast path, and how their last layer is named.
STEEP = ("bert", "roberta", "electra", "distilbert", "albert", "deberta-v2")


@pytest.mark.slow
@pytest.mark.parametrize("scale", [5, 20, 50])
@pytest.mark.parametrize("kind", STEEP)
def test_steep_classifiers_are_certified_or_named_with_their_true_error(kind: str, scale: float) -> None:
    model, batch = tiny.classifier(kind, initializer_range=0.2), tiny.batch(kind)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.startswith("classifier"):
                weights *= scale
    items = gold_and_predicted(model, batch)
    exact = attribute(model, batch, items, MethodSettings(quadrature="gauss-legendre", nodes=256))
    for found, expected in zip(attribute(model, batch, items, MethodSettings()), exact, strict=True):
        assert int(found.nodes.max()) <= MOST_NODES
        missing = found.scores.sum((1, 2, 3)) - (found.f_full - found.f_zero)
        torch.testing.assert_close(found.completeness_error, missing, rtol=0, atol=1e-6)
        assert (missing[found.certified].abs() <= 1e-3).all()
        assert (found.path_error[~found.certified] > 1e-7).all()
        # Of the steepest not even 256 Gauss nodes give the truth.
        sure = found.certified & (expected.completeness_error.abs() < 1e-5)
        largest = expected.scores.abs().amax((1, 2, 3))
        off = (found.scores.amax((2, 3)) - expected.scores.amax((2, 3))).abs().amax(1)
        assert (off[sure] <= 0.03 * largest[sure] + 1e-5).all()


def test_a_loose_tolerance_is_content_with_three_nodes_where_it_holds() -> None:
    loose = steep_results_at(0.1)
    nodes = torch.stack([result.nodes for result in loose])
    assert (nodes == 3).any()
    assert (nodes > 3).any()
    for layer, result in enumerate(loose):
        assert result.path_error.max() <= PATH_SHARE * 0.1
        for item, accepted in enumerate(result.nodes.tolist()):
            if accepted > LEVELS[-1]:
                continue
            fixed = by_rule(layer, accepted)
            assert (result.scores[item] - fixed.scores[item]).abs().max() < 1e-5
    assert min(int(result.nodes.min()) for result in steep_results("adaptive")) == 5


def steep_results_at(tolerance: float) -> list[LayerAttribution]:
    return attribute(*steep(), MethodSettings(tolerance=tolerance))


def test_what_the_finest_rule_cannot_resolve_is_kept_with_its_error() -> None:
    impossible = attribute(*steep(), MethodSettings(tolerance=1e-9))
    for result in impossible:
        assert (result.nodes == MOST_NODES).any()
        assert not result.certified[result.nodes == MOST_NODES].any()
        missing = result.scores.sum((1, 2, 3)) - (result.f_full - result.f_zero)
        torch.testing.assert_close(result.completeness_error, missing, rtol=0, atol=1e-6)
        assert (result.scores.abs().amax((1, 2, 3)) > 0).all()


def test_fixed_rules_state_no_criteria_of_the_adaptive_one() -> None:
    for result in steep_results("left-riemann", 20):
        assert result.path_error.isnan().all()
        assert result.agreement_error.isnan().all()
        assert result.nodes.tolist() == [20] * len(LENGTHS)


@pytest.mark.parametrize("kind", ["distilbert", "deberta-v2"])
def test_bfloat16_is_certified_row_by_row(kind: str) -> None:
    model, batch = tiny.classifier(kind, initializer_range=0.1), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    half = attribute(model, batch, items, MethodSettings(dtype="bfloat16"))
    single = attribute(model, batch, items, MethodSettings())
    for result in half:
        missing = result.scores.sum((1, 2, 3)) - (result.f_full - result.f_zero)
        assert missing.abs().max() <= PATH_SHARE * 1e-3
        assert result.scores.dtype == torch.float32
    by_item = (scores(half) - scores(single)).abs().amax((2, 3, 4)) / scores(single).abs().amax((2, 3, 4))
    assert by_item.max() < 3e-2
    assert (by_item > 1e-4).any(), "no pair was accepted in bfloat16"
    assert (by_item < 1e-5).any(), "no pair was raised to float32"


def test_fixed_rules_run_in_bfloat16() -> None:
    model, batch = tiny.classifier("bert", initializer_range=0.2), tiny.batch("bert")
    items = gold_and_predicted(model, batch)
    half = attribute(
        model, batch, items, MethodSettings(quadrature="gauss-legendre", nodes=8, dtype="bfloat16")
    )
    single = attribute(model, batch, items, MethodSettings(quadrature="gauss-legendre", nodes=8))
    assert 1e-4 < distance(scores(half), scores(single)) < 3e-2
    for one, other in zip(half, single, strict=True):
        torch.testing.assert_close(one.f_full, other.f_full)  # the clean pass is float32
        assert 0 < (one.f_zero - other.f_zero).abs().max() < 3e-2


def test_at_a_loose_tolerance_bfloat16_raises_the_rule_itself() -> None:
    model, batch, items = steep()
    half = attribute(model, batch, items, MethodSettings(tolerance=0.1, dtype="bfloat16"))
    single = attribute(model, batch, items, MethodSettings(tolerance=0.1))
    seen = set()
    for layer, result in enumerate(half):
        assert result.path_error.max() <= PATH_SHARE * 0.1
        for item, nodes in enumerate(result.nodes.tolist()):
            mesh = nodes > LEVELS[-1]  # in float32 from its first node on
            exact = single[layer].scores[item] if mesh else by_rule(layer, nodes).scores[item]
            off = float((result.scores[item] - exact).abs().max() / exact.abs().max())
            assert off < 1e-4 or nodes <= 9
            seen.add((nodes > 3, off > 1e-4))
    assert (True, True) in seen, "no pair was raised in bfloat16"
    assert (True, False) in seen, "none was raised to float32"


def test_what_is_not_a_number_gets_no_further_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an example is quarantined; the others of its batch are as without it."""
    broken, undisturbed = 0, steep_results("adaptive")

    def replay(trace: Trace, layer: int, items: Items, *others: Any) -> Replayed:
        nonlocal broken
        found = path.replay(trace, layer, items, *others)
        broken += int((items.rows == 0).sum())
        return Replayed(*(one.masked_fill(_of_row_0(items, one), torch.nan) for one in found))

    monkeypatch.setattr(layer_module, "replay", replay)
    for result, expected in zip(attribute(*steep(), MethodSettings()), undisturbed, strict=True):
        assert not result.certified[0]
        assert result.scores[0].isnan().any()
        torch.testing.assert_close(result.scores[1:], expected.scores[1:], rtol=0, atol=1e-5)
    assert broken == 3 * 9  # of each layer the 8 nodes of the rules, and one round of one


def _of_row_0(items: Items, like: torch.Tensor) -> torch.Tensor:
    return (items.rows == 0).reshape(-1, *[1] * (like.ndim - 1))
