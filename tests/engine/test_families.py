"""Every family gives what a plain autograd loop over its attention matrices gives."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, distance, gold_and_predicted, scores
from helpers.naive import Reference, reference

from attattr_batch.engine.families import Batch, encoder_for
from attattr_batch.engine.path import Items
from attattr_batch.engine.quadrature import fixed_rule
from attattr_batch.spec import MethodSettings, make_settings

# The second has a node at 0 and the last one at 1, which the engine takes from elsewhere.
RULES = (("gauss-legendre", 8), ("left-riemann", 20), ("right-riemann", 5))
# ModernBERT's own attention function takes its softmax in float32, whatever the model's type.
TOLERANCE = {"modernbert": 1e-6}
# ... where a padding row none of whose window is real overflows if the model is in float64.
LENGTHS = {"modernbert": (12, 10, 11)}


@cache
def case(kind: str) -> tuple[Any, Batch, Items]:
    model = tiny.classifier(kind, dtype=torch.float64)
    batch = tiny.batch(kind, LENGTHS.get(kind, tiny.LENGTHS))
    return model, batch, gold_and_predicted(model, batch)


@cache
def expected(kind: str, rule: tuple[str, int]) -> Reference:
    model, batch, items = case(kind)
    inputs = {name: tensor[items.rows] for name, tensor in batch.model_inputs().items()}
    return reference(model, inputs, items.classes, fixed_rule(*rule))


def paths(kind: str) -> list[bool]:
    """Whether to take the generic path."""
    return [False, True] if kind in tiny.FAST else [False]


CASES = [(kind, generic) for kind in tiny.KINDS for generic in paths(kind)]


@pytest.mark.parametrize(("kind", "generic"), CASES)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_scores_equal_the_naive_loop(kind: str, generic: bool, rule: tuple[str, int]) -> None:
    model, batch, items = case(kind)
    tolerance = TOLERANCE.get(kind, 1e-9)
    results = attribute(
        model,
        batch,
        items,
        make_settings(MethodSettings, dict(zip(("quadrature", "nodes"), rule, strict=True))),
        generic=generic,
    )
    naive = expected(kind, rule)
    assert [result.layer for result in results] == list(range(len(naive.scores)))
    for result, layer_scores, f_zero in zip(results, naive.scores, naive.f_zero, strict=True):
        assert result.scores.dtype == result.f_full.dtype == result.f_zero.dtype == torch.float64
        found = scores([result])[0]
        assert distance(found, layer_scores) < tolerance
        torch.testing.assert_close(result.f_full, naive.f_full, rtol=0, atol=tolerance)
        torch.testing.assert_close(result.f_zero, f_zero, rtol=0, atol=tolerance)
        missing = layer_scores.sum((1, 2, 3)) - (naive.f_full - f_zero)
        torch.testing.assert_close(result.completeness_error, missing, rtol=0, atol=tolerance)
        assert result.nodes.tolist() == [rule[1]] * len(items)


@pytest.mark.parametrize(("kind", "generic"), CASES)
def test_clean_attention_equals_that_of_the_naive_loop(kind: str, generic: bool) -> None:
    model, batch, items = case(kind)
    trace = encoder_for(model, generic=generic).trace(batch)
    for layer, attention in enumerate(expected(kind, RULES[0]).attention):
        found, _ = trace.attention(layer)
        assert distance(found[items.rows], attention) < TOLERANCE.get(kind, 1e-9)


@pytest.mark.parametrize("kind", [kind for kind, generic in CASES if generic])
def test_fast_and_generic_path_agree_on_adaptive_runs(kind: str) -> None:
    model, batch, items = case(kind)
    fast = attribute(model, batch, items, MethodSettings())
    generic = attribute(model, batch, items, MethodSettings(), generic=True)
    assert distance(scores(fast), scores(generic)) < 1e-9
    for one, other in zip(fast, generic, strict=True):
        assert one.nodes.tolist() == other.nodes.tolist()
        torch.testing.assert_close(one.path_error, other.path_error, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(one.agreement_error, other.agreement_error, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(one.taylor, other.taylor, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.taylor_released, other.taylor_released, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_adaptive_rows_are_complete_within_tolerance(kind: str) -> None:
    # The ReLU in DistilBERT's head makes F kink, more so the larger the weights.
    spread = 0.1 if kind == "distilbert" else 0.35
    model, batch = tiny.classifier(kind, initializer_range=spread), tiny.batch(kind)
    for tolerance in (1e-3, 1e-4):
        for result in attribute(
            model, batch, gold_and_predicted(model, batch), MethodSettings(tolerance=tolerance)
        ):
            rise = result.f_full - result.f_zero
            missing = result.scores.sum((1, 2, 3)) - rise
            assert missing.abs().max() <= tolerance
            torch.testing.assert_close(result.completeness_error, missing, rtol=0, atol=1e-6)
            assert result.path_error.max() <= tolerance


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_attention_equals_what_the_model_itself_reports(kind: str) -> None:
    model, batch = tiny.classifier(kind), tiny.batch(kind)
    trace = encoder_for(model).trace(batch)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        reported = model(**batch.model_inputs(), output_attentions=True).attentions
    # ALBERT with inner groups reports a tuple for each of its steps.
    own = [matrix for entry in reported for matrix in (entry if isinstance(entry, tuple) else (entry,))]
    assert len(own) == encoder_for(model).n_layers
    for layer, expected_attention in enumerate(own):
        found, values = trace.attention(layer)
        # Rows of padding are nobody's business; windows may leave them without any key.
        real = batch.attention_mask[:, None, :, None]
        torch.testing.assert_close(found * real, expected_attention * real, rtol=0, atol=1e-5)
        keys = (found * ~batch.attention_mask[:, None, None, :] * real).abs().max()
        assert keys == 0, "attention on padding"
        assert values.shape == (*found.shape[:3], 4)


@pytest.mark.parametrize(("kind", "generic"), CASES)
def test_contexts_are_attention_times_values(kind: str, generic: bool) -> None:
    model, batch, _ = case(kind)
    trace = encoder_for(model, generic=generic).trace(batch)
    for layer, context in enumerate(trace.contexts):
        attention, values = trace.attention(layer)
        product = (attention @ values).transpose(1, 2).flatten(2)[:, : context.shape[1]]
        assert distance(context.detach(), product) < 1e-12


@pytest.mark.parametrize(("kind", "generic"), CASES)
def test_a_replay_with_the_clean_context_gives_the_clean_logits(kind: str, generic: bool) -> None:
    model, batch, items = case(kind)
    encoder = encoder_for(model, generic=generic)
    trace = encoder.trace(batch)
    own = encoder.logits(batch)
    # ModernBERT runs another kernel outside of interception, in other precision.
    assert distance(trace.logits.detach(), own) < TOLERANCE.get(kind, 1e-12)
    for layer, context in enumerate(trace.contexts):
        replayed = trace.replay(layer, items.rows, context.detach()[items.rows])
        assert distance(replayed, trace.logits.detach()[items.rows]) < 1e-12


def test_only_a_local_layer_of_modernbert_has_a_window() -> None:
    """The window must be smaller than the sequence for the other tests to say anything about it."""
    model, batch = tiny.classifier("modernbert"), tiny.batch("modernbert")
    trace = encoder_for(model).trace(batch)
    position = torch.arange(12)
    far = (position[:, None] - position).abs() > 2
    longest = tiny.LENGTHS.index(12)
    assert (trace.attention(0)[0][longest][:, far] > 0).all()
    for layer in (1, 2):
        attention = trace.attention(layer)[0][longest]
        assert (attention[:, far] == 0).all()
        assert (attention[:, ~far] > 0).all()


def test_deberta_attends_by_relative_position() -> None:
    """With equal tokens everywhere, attention depends on the distance alone, and does depend on it."""
    model = tiny.classifier("deberta-v2")
    batch = tiny.batch("deberta-v2", (8,))
    batch.input_ids[:] = 7
    attention = encoder_for(model).trace(batch).attention(0)[0][0].log()
    steps = attention.diff(dim=-1)
    assert steps.abs().max() > 0.01
    # log-softmax differences along a row are functions of (query - key): shifted rows agree.
    torch.testing.assert_close(steps[:, 1:, 1:], steps[:, :-1, :-1], rtol=0, atol=1e-4)
