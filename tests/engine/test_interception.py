"""Whatever happens, nothing of the engine stays behind in the model or in transformers."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.attributing import gold_and_predicted
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Batch, Encoder, encoder_for
from attattr_batch.engine.families._intercepted import InterceptedEncoder
from attattr_batch.engine.path import replay
from attattr_batch.spec import MethodSettings

# With the path of the module that fails in `breaking`: one inside layer 1.
INTERCEPTED = {
    "bert": "bert.encoder.layer.1.intermediate",
    "ernie": "ernie.encoder.layer.1.intermediate",
    "modernbert": "model.layers.1.mlp",
    "deberta-v2": "deberta.encoder.layer.1.intermediate",
}
BEFORE = {"bert": "sdpa", "ernie": "eager", "modernbert": "sdpa", "deberta-v2": "eager"}
Visitor = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class BrokenError(Exception):
    pass


def state(model: Any) -> dict[str, Any]:
    """Everything the engine could leave behind."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
    )
    return {
        "attention functions": dict(ALL_ATTENTION_FUNCTIONS),
        "mask functions": dict(ALL_MASK_ATTENTION_FUNCTIONS),
        "implementation": model.config._attn_implementation,
        "hooks": {
            (name, kind): list(getattr(module, kind))
            for name, module in model.named_modules()
            for kind in hooks
        },
        "modules": {name: id(module) for name, module in model.named_modules()},
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "requires_grad": [
            name for name, tensor in model.state_dict(keep_vars=True).items() if tensor.requires_grad
        ],
        "training": model.training,
    }


def prepared(kind: str) -> tuple[Any, Encoder, Batch, dict[str, Any]]:
    model = tiny.classifier(kind)
    model.set_attn_implementation(BEFORE[kind])
    encoder = encoder_for(model, generic=True)
    before = state(model)
    assert before["requires_grad"] == []
    assert before["implementation"] == BEFORE[kind]
    return model, encoder, tiny.batch(kind), before


def breaking(model: Any, path: str, calls: int = 0) -> Any:
    """Makes a module fail, after so many calls; returns how to mend it."""
    module = model.get_submodule(path)
    own, left = module.forward, [calls]

    def fail(*args: Any, **options: Any) -> Any:
        if left[0] == 0:
            raise BrokenError("broken on purpose")
        left[0] -= 1
        return own(*args, **options)

    module.forward = fail
    return lambda: delattr(module, "forward")


@pytest.mark.parametrize("kind", INTERCEPTED)
def test_after_a_whole_attribution(kind: str) -> None:
    model, encoder, batch, before = prepared(kind)
    for _ in attribute_layers(encoder.trace(batch), gold_and_predicted(model, batch), MethodSettings()):
        assert state(model) == before
    assert state(model) == before


@pytest.mark.parametrize("kind", INTERCEPTED)
def test_after_an_attribution_given_up_in_the_middle(kind: str) -> None:
    model, encoder, batch, before = prepared(kind)
    layers = attribute_layers(encoder.trace(batch), gold_and_predicted(model, batch), MethodSettings())
    next(layers)
    del layers
    assert state(model) == before


@pytest.mark.parametrize("kind", INTERCEPTED)
def test_inside_it_is_there_and_afterwards_gone(kind: str) -> None:
    """Guards `state` itself: it must see what an interception changes."""
    model, encoder, batch, before = prepared(kind)
    assert isinstance(encoder, InterceptedEncoder)
    with encoder.intercepted(lambda context, attention, value: context):
        assert state(model) != before
    assert state(model) == before


@pytest.mark.parametrize(("kind", "path"), INTERCEPTED.items())
def test_after_a_failing_clean_pass(kind: str, path: str) -> None:
    model, encoder, batch, before = prepared(kind)
    mend = breaking(model, path)
    with pytest.raises(BrokenError):
        encoder.trace(batch)
    mend()
    assert state(model) == before
    encoder.trace(batch)


@pytest.mark.parametrize(("kind", "path"), INTERCEPTED.items())
def test_after_a_failing_replay(kind: str, path: str) -> None:
    model, encoder, batch, before = prepared(kind)
    items = gold_and_predicted(model, batch)
    trace = encoder.trace(batch)
    mend = breaking(model, path, calls=1)
    with pytest.raises(BrokenError):
        replay(trace, 1, items, torch.tensor(0.5).expand(len(items)), batch_tokens=24)
    mend()
    assert state(model) == before
    replay(trace, 1, items, torch.tensor(0.5).expand(len(items)), batch_tokens=24)


@pytest.mark.parametrize("kind", INTERCEPTED)
def test_after_a_failing_visitor(kind: str) -> None:
    model, encoder, batch, before = prepared(kind)
    assert isinstance(encoder, InterceptedEncoder)

    def fail(layer: int, context: Tensor, attention: Tensor, value: Tensor) -> Tensor:
        if layer == 1:
            raise BrokenError("broken on purpose")
        return context

    with pytest.raises(BrokenError):
        encoder.run(batch.model_inputs(), fail)
    assert state(model) == before


@pytest.mark.parametrize("kind", INTERCEPTED)
def test_after_a_forward_that_cannot_run(kind: str) -> None:
    model, encoder, batch, before = prepared(kind)
    batch.input_ids[0, 0] = tiny.VOCABULARY + 5
    with pytest.raises(IndexError):
        encoder.trace(batch)
    assert state(model) == before


@pytest.mark.parametrize("kind", INTERCEPTED)
@pytest.mark.parametrize("same", [False, True], ids=["two models", "one model"])
def test_two_threads_do_not_mix(kind: str, same: bool) -> None:
    """The second thread comes while the first is between two layers."""
    one = encoder_for(tiny.classifier(kind), generic=True)
    two = one if same else encoder_for(tiny.classifier(kind, seed=1), generic=True)
    assert isinstance(one, InterceptedEncoder) and isinstance(two, InterceptedEncoder)
    inputs, batch = tiny.batch(kind).model_inputs(), tiny.batch(kind)
    alone = one.logits(batch), two.logits(batch)
    seen, answers = list[int](), list[Tensor]()

    def second() -> None:
        answers.append(two.logits(batch))
        answers.append(two.run(inputs, lambda layer, context, attention, value: context))

    other = Thread(target=second)

    def first(layer: int, context: Tensor, attention: Tensor, value: Tensor) -> Tensor:
        if layer == 0:
            other.start()
            other.join(0.3)  # time enough for its forward, were it not made to wait
        seen.append(layer)
        return context

    answer = one.run(inputs, first)
    other.join()
    assert seen == [0, 1, 2]
    torch.testing.assert_close(answer, alone[0])
    assert len(answers) == 2
    for found in answers:
        torch.testing.assert_close(found, alone[1])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "albert"])
def test_the_fast_path_leaves_the_model_alone(kind: str) -> None:
    model = tiny.classifier(kind)
    encoder, batch = encoder_for(model), tiny.batch(kind)
    before = state(model)
    for _ in attribute_layers(encoder.trace(batch), gold_and_predicted(model, batch), MethodSettings()):
        assert state(model) == before
    assert state(model) == before
    with torch.no_grad():
        torch.testing.assert_close(encoder.logits(batch), model(**batch.model_inputs()).logits)
