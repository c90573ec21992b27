"""Other paths, baselines and weights equal an autograd loop over explicit attention matrices in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from helpers import naive, tiny
from helpers.attributing import attribute, distance, gold_and_predicted
from helpers.other_loops import ByLoop
from torch import Tensor

from attattr_batch.engine.families import Batch, collate, encoder_for
from attattr_batch.engine.means import mean_contexts
from attattr_batch.engine.other_paths import PathScores, attribute_along
from attattr_batch.engine.path import Items
from attattr_batch.engine.quadrature import gauss_legendre
from attattr_batch.engine.variants import CRITERIA, PathVariant
from attattr_batch.spec import MethodSettings

KINDS = sorted(tiny.FAST)
PATHS = [
    (kind, generic)
    for kind in KINDS
    for generic in (False, True)
    if (kind, generic) != ("albert-inner", True)
]
EXACT = MethodSettings(tolerance=1e-7)
RULE = gauss_legendre(16)
VARIANTS = [
    *CRITERIA.values(),
    PathVariant("uniform", "head"),
    PathVariant("mean", "head"),
    PathVariant("uniform", "layer", "idg"),
]
# On the generic path one family is enough for what no criterion asks for.
CASES = [
    (kind, generic, variant)
    for kind, generic in PATHS
    for variant in VARIANTS
    if not generic or kind == "bert" or variant in CRITERIA.values()
]


@cache
def case(kind: str) -> tuple[Any, Batch, Items, Tensor]:
    """Small weights, so that F is smooth and tight tolerances can be met; and mean contexts."""
    model = tiny.classifier(kind, dtype=torch.float64, initializer_range=0.15)
    if kind == "distilbert":  # no ReLU that makes F kink
        torch.nn.init.constant_(model.pre_classifier.bias, 3.0)
    batch = tiny.batch(kind)
    rows = tiny.examples((7, 11), seed=3, segments=tiny.takes_segments(kind))
    return model, batch, gold_and_predicted(model, batch), mean_contexts(encoder_for(model), rows, 4096)


def found(
    model: Any, batch: Batch, items: Items, means: Tensor, variant: PathVariant, generic: bool = False
) -> list[PathScores]:
    trace = encoder_for(model, generic=generic).trace(batch)
    return [one for _, one in attribute_along(trace, items, [variant], EXACT, 4096, means)]


def by_loop(kind: str, variant: PathVariant, layer: int) -> tuple[Tensor, Tensor]:
    """Scores [item, head, query, key], and F at alpha = 0 [item, head]."""
    model, batch, items, means = case(kind)
    inputs = {name: tensor[items.rows] for name, tensor in batch.model_inputs().items()}
    return ByLoop(model, inputs, items.classes, means, variant, layer).scores(RULE)


@pytest.mark.parametrize(("kind", "generic", "variant"), CASES)
def test_scores_equal_the_loop(kind: str, generic: bool, variant: PathVariant) -> None:
    results = found(*case(kind), variant, generic)
    for layer, result in enumerate(results):
        expected, f_zero = by_loop(kind, variant, layer)
        scores = torch.zeros_like(expected)
        scores[:, :, : result.scores.shape[2]] = result.scores
        assert result.layer == layer
        assert distance(scores, expected) < 1e-5
        torch.testing.assert_close(result.f_zero, f_zero, rtol=0, atol=1e-9)
        assert result.certified.all()
        sums = scores.sum((2, 3))
        rise = result.f_full[:, None] - f_zero
        if variant.weights == "idg":
            assert result.completeness_error.isnan().all()
        elif variant.path == "head":
            assert (sums - rise).abs().max() < 1e-7
            torch.testing.assert_close(result.completeness_error, sums - rise, rtol=0, atol=1e-12)
        else:
            assert (sums.sum(1, keepdim=True) - rise).abs().max() < 1e-7


@pytest.mark.parametrize("kind", ["bert", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_padding_and_company(kind: str, criterion: str) -> None:
    model = tiny.classifier(kind, dtype=torch.float32, initializer_range=0.2)
    rows = tiny.examples(segments=tiny.takes_segments(kind))
    encoder = encoder_for(model)
    means = mean_contexts(encoder, rows, 4096)
    together = tiny.batch(kind)
    items = gold_and_predicted(model, together)
    method = MethodSettings()

    def scores(batch: Batch, items: Items, batch_tokens: int) -> list[PathScores]:
        trace = encoder.trace(batch)
        return [
            one
            for _, one in attribute_along(trace, items, [CRITERIA[criterion]], method, batch_tokens, means)
        ]

    expected = scores(together, items, 4096)
    for one, other in zip(scores(together, items, 30), expected, strict=True):
        assert distance(one.scores, other.scores) < 1e-5
    for item in range(len(items)):
        row = int(items.rows[item])
        alone = collate([rows[row]], 1, torch.device("cpu"))
        single = Items(torch.zeros(1, dtype=torch.long), items.classes[item : item + 1])
        for one, other in zip(scores(alone, single, 4096), expected, strict=True):
            size = one.scores.shape
            mine = other.scores[item, :, : size[2], : size[3]]
            assert (other.scores[item, :, :, size[3] :] == 0).all()
            # Within tolerance only: rounding may tip the choice of a rule.
            assert distance(mine, one.scores[0]) < 2e-3


def test_the_paper_s_own_path_is_one_of_them() -> None:
    model, batch, items, means = case("bert")
    for one, other in zip(
        found(model, batch, items, means, PathVariant()), attribute(model, batch, items, EXACT), strict=True
    ):
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.f_zero[:, 0], other.f_zero)
        assert torch.equal(one.nodes[:, 0], other.nodes)


def test_the_mean_baseline_needs_means() -> None:
    model, batch, items, _ = case("bert")
    with pytest.raises(ValueError, match="needs mean contexts"):
        next(attribute_along(encoder_for(model).trace(batch), items, [CRITERIA["attattr_mean"]], EXACT))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_mean_contexts_are_means_over_real_tokens(kind: str) -> None:
    model = tiny.classifier(kind)
    rows = tiny.examples((9, 5, 12, 5), segments=tiny.takes_segments(kind))
    total, n_tokens = torch.zeros(()), 0
    for row in rows:
        batch = collate([row], 1, torch.device("cpu"))
        seen = naive.contexts(model, batch.model_inputs())
        total = total + torch.stack([one.sum((0, 1)) for one in seen])
        n_tokens += row.n_tokens
    means = mean_contexts(encoder_for(model), rows, 4096)
    torch.testing.assert_close(means.float(), total / n_tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(mean_contexts(encoder_for(model), rows[::-1], 5), means, rtol=0, atol=1e-6)
