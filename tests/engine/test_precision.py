"""Number formats of the replays: which are tried, what rounding costs, and that range is no trouble."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute, gold_and_predicted, scores

from attattr_batch.choices import DType
from attattr_batch.engine.families import encoder_for
from attattr_batch.engine.path import Items, replay
from attattr_batch.engine.precision import arithmetic, attempts
from attattr_batch.spec import MethodSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("float32", CUDA, [(5, "float32"), (9, "float32")]),
        ("auto", CPU, [(5, "float32"), (9, "float32")]),
        ("auto", CUDA, [(5, "float16"), (9, "float16"), (9, "float32")]),
        ("tf32", CUDA, [(5, "tf32"), (9, "tf32"), (9, "float32")]),
        ("bfloat16", CPU, [(5, "bfloat16"), (9, "bfloat16"), (9, "float32")]),
    ],
)
def test_which_rules_are_tried_in_which_format(
    dtype: DType, device: torch.device, expected: list[tuple[int, str]]
) -> None:
    found = attempts(dtype, 1e-3, device)
    assert [(len(one.rule), one.dtype) for one in found] == expected
    assert [len(one.coarser) for one in found] == [3, 5, 5][: len(found)]


@pytest.mark.parametrize(
    ("kind", "dtype", "most"),
    [("bert", "float16", 3e-3), ("bert", "bfloat16", 3e-2), ("modernbert", "float16", 3e-3)],
)
def test_what_rounding_costs(kind: str, dtype: DType, most: float) -> None:
    model, batch = tiny.classifier(kind, initializer_range=0.2), tiny.batch(kind)
    items = gold_and_predicted(model, batch)
    exact = attribute(model, batch, items, MethodSettings())
    found = attribute(model, batch, items, MethodSettings(dtype=dtype))
    for one, other in zip(found, exact, strict=True):
        assert one.certified.all()
        torch.testing.assert_close(one.f_full, other.f_full)  # the clean pass is float32
        assert one.scores.dtype == torch.float32
    difference = (scores(found) - scores(exact)).abs().amax((0, 2, 3, 4))
    off = difference / scores(exact).abs().amax((0, 2, 3, 4))
    assert 1e-6 < float(off.max()) < most


@pytest.mark.parametrize("probability", [1e-7, 1 - 1e-7])
def test_gradients_of_a_saturated_class_fit_into_float16(probability: float) -> None:
    """dF/dctx is of the order of 1e-8 here, which float16 rounds to zero."""
    model, batch = tiny.classifier("bert", num_labels=2), tiny.batch("bert", (9,))
    with torch.no_grad():
        model.classifier.bias[0] += torch.logit(torch.tensor(probability, dtype=torch.float64)).float()
    trace = encoder_for(model).trace(batch)
    item, half = Items(torch.tensor([0]), torch.tensor([0])), torch.tensor([0.5])
    exact = replay(trace, 0, item, half, 4096).gradient
    assert 0 < float(exact.abs().max()) < 1e-6
    with arithmetic("float16", CPU):
        found = replay(trace, 0, item, half, 4096).gradient
    assert float((found - exact).abs().max()) < 2e-2 * float(exact.abs().max())


def test_what_overflows_float16_is_computed_again() -> None:
    model, batch = tiny.classifier("bert", initializer_range=0.2), tiny.batch("bert")
    with torch.no_grad():
        for block in model.bert.encoder.layer:
            block.intermediate.dense.weight *= 1e3
            block.intermediate.dense.bias += 1e5  # beyond 65,504
            block.output.dense.weight *= 1e-6
    items = gold_and_predicted(model, batch)
    found = attribute(model, batch, items, MethodSettings(dtype="float16"))
    exact = attribute(model, batch, items, MethodSettings())
    for layer, (one, other) in enumerate(zip(found, exact, strict=True)):
        assert one.certified.all(), layer
        torch.testing.assert_close(one.f_zero, other.f_zero, rtol=1e-4, atol=1e-6)


def test_float32_is_exact_whatever_torch_was_told() -> None:
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        with arithmetic("float32", CPU):
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before
