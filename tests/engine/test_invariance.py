"""Scores do not depend on padding, on the rest of the batch, on what is replayed at once, or on order."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, distance, gold_and_predicted, scores
from torch import Tensor

from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Trace, collate, encoder_for
from attattr_batch.engine.path import Items
from attattr_batch.spec import MethodSettings

RULE = MethodSettings(quadrature="gauss-legendre", nodes=4)
CLOSE = 1e-5
"""Relative to the largest entry, in float32."""


def alone(kind: str, row: int, classes: Tensor) -> Tensor:
    """Scores of one row in a batch of its own, without any padding [layer, item, head, query, key]."""
    example = tiny.examples(segments=tiny.takes_segments(kind))[row]
    items = Items(torch.zeros(len(classes), dtype=torch.long), classes)
    batch = collate([example], 1, torch.device("cpu"))
    assert batch.attention_mask.all()
    return scores(attribute(tiny.classifier(kind), batch, items, RULE))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_padding_and_company(kind: str) -> None:
    """The middle row fills less than half of its batch; ModernBERT's windows see padding alone there."""
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    together = scores(attribute(model, batch, items, RULE))
    for row, length in enumerate(tiny.LENGTHS):
        mine = items.rows == row
        expected = alone(kind, row, items.classes[mine])
        found = together[:, mine]
        assert distance(found[..., :length, :length], expected) < CLOSE
        assert not found[..., length:, :].any()
        assert not found[..., :, length:].any()


@pytest.mark.parametrize("kind", ["bert", "modernbert", "deberta-v2"])
def test_padding_and_company_of_adaptive_runs(kind: str) -> None:
    model, batch = tiny.classifier(kind, initializer_range=0.2), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    together = scores(attribute(model, batch, items, MethodSettings()))
    for item in range(len(items)):
        row = tiny.examples(segments=tiny.takes_segments(kind))[int(items.rows[item])]
        single = Items(torch.zeros(1, dtype=torch.long), items.classes[item : item + 1])
        expected = scores(attribute(model, collate([row], 1, torch.device("cpu")), single, MethodSettings()))[
            :, 0
        ]
        # Within tolerance only: rounding may tip the choice of a rule.
        assert distance(together[:, item, :, : row.n_tokens, : row.n_tokens], expected) < 2e-3


@pytest.mark.parametrize("kind", ["bert", "albert", "modernbert"])
@pytest.mark.parametrize("method", [RULE, MethodSettings()], ids=["fixed", "adaptive"])
def test_how_much_is_replayed_at_once(kind: str, method: MethodSettings) -> None:
    model, batch = tiny.classifier(kind, initializer_range=0.2), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    at_once = scores(attribute(model, batch, items, method))
    for batch_tokens in (1, 30):  # one row, two rows
        small = attribute(model, batch, items, method, batch_tokens=batch_tokens)
        assert distance(scores(small), at_once) < CLOSE


@pytest.mark.parametrize(("room", "times"), [(4, 1), (2, 2), (1, 4)])
def test_a_fixed_rule_replays_as_many_nodes_at_once_as_there_is_room_for(
    room: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One short example would otherwise read all weights again for every node."""
    model, batch = tiny.classifier("bert"), tiny.batch("bert")
    items = gold_and_predicted(model, batch)
    trace = encoder_for(model).trace(batch)
    replay, sizes = type(trace).replay, []

    def counting(self: Trace, layer: int, rows: Tensor, context: Tensor) -> Tensor:
        sizes.append(len(rows))
        return replay(self, layer, rows, context)

    monkeypatch.setattr(type(trace), "replay", counting)
    batch_tokens = room * len(items) * batch.input_ids.shape[1]
    results = list(attribute_layers(trace, items, RULE, batch_tokens))
    # One more for each layer gives F(0), because 0 is no node of this rule.
    assert sizes == [len(items), *([room * len(items)] * times)] * len(results)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "deberta-v2"])
def test_order_of_items_and_rows(kind: str) -> None:
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    expected = attribute(model, batch, items, RULE)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled = attribute(model, batch, Items(items.rows[order], items.classes[order]), RULE)
    assert distance(scores(shuffled), scores(expected)[:, order]) < CLOSE
    turned = collate(tiny.examples(segments=tiny.takes_segments(kind))[::-1], 1, torch.device("cpu"))
    backwards = attribute(model, turned, Items(2 - items.rows, items.classes), RULE)
    assert distance(scores(backwards), scores(expected)) < CLOSE
    for one, other in zip(backwards, expected, strict=True):
        torch.testing.assert_close(one.f_full, other.f_full, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.f_zero, other.f_zero, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.taylor, other.taylor, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.taylor_released, other.taylor_released, rtol=1e-4, atol=1e-6)


def test_one_row_for_all_classes_at_once() -> None:
    """Probabilities of all classes add up to one, so their attributions cancel."""
    model, batch = tiny.classifier("bert"), tiny.batch("bert")
    items = Items(torch.tensor([0, 0, 0, 2, 2, 2]), torch.tensor([0, 1, 2, 0, 1, 2]))
    found = scores(attribute(model, batch, items, RULE))
    for part in (found[:, :3], found[:, 3:]):
        assert part.sum(1).abs().max() < 1e-5 * part.abs().max()


def test_classes_differ() -> None:
    """The equalities above would hold for an engine that ignored the class: this one does not."""
    model, batch = tiny.classifier("bert"), tiny.batch("bert")
    results = [
        scores(attribute(model, batch, Items(torch.tensor([0]), torch.tensor([label])), RULE))
        for label in (0, 1)
    ]
    assert distance(*results) > 0.5
