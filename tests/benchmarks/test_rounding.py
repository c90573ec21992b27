"""The imitation of number formats rounds as they do, forwards and backwards."""

from __future__ import annotations

import pytest
import rounding
import torch


@pytest.mark.parametrize("dtype", ["float16", "tf32", "bfloat16"])
def test_numbers_and_gradients_are_rounded(dtype: str) -> None:
    drawn = torch.Generator().manual_seed(0)
    numbers = torch.randn(1000, generator=drawn).requires_grad_()
    # Within float16's range tf32 has the same digits.
    same = getattr(torch, {"tf32": "float16"}.get(dtype, dtype))
    expected = numbers.detach().clamp_min(1e-3).to(same).float()
    found = rounding.through(numbers.clamp_min(1e-3), dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    slope = torch.rand(1000, generator=drawn) + 1e-3
    (gradient,) = torch.autograd.grad(rounding.through(numbers, dtype), numbers, slope)
    torch.testing.assert_close(gradient, slope.to(same).float(), rtol=0, atol=0)


def test_tf32_has_float32_s_range() -> None:
    assert rounding.rounded(torch.tensor([1e-30, 1e30]), "tf32").tolist() == pytest.approx(
        [1e-30, 1e30], rel=1e-3
    )


def test_products_are_rounded_and_float32_is_left_alone() -> None:
    given, weight = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))[0], torch.randn(6, 5)
    exact = torch.nn.functional.linear(given, weight)
    with rounding.imitated("bfloat16", torch.device("cpu")):
        off = (torch.nn.functional.linear(given, weight) - exact).abs().max() / exact.abs().max()
    with rounding.imitated("float32", torch.device("cpu")):
        assert torch.equal(torch.nn.functional.linear(given, weight), exact)
    assert 1e-4 < off < 2e-2
