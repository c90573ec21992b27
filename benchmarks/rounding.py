"""Which pairs a number format can certify, and what its rounding costs: docs/attribution.md.

    ATTATTR_REAL_DATA=DIR python benchmarks/rounding.py --task sst2 --rows 12

A GPU's formats are imitated on a CPU: operands and results of every product of the replays, and the gradients
that go back through them, are rounded as the format rounds, and sums are kept in float32. The class scores
stay exact, as the engine computes them. Rules of 5 and 9 nodes are tried; meshes, in float32 in any case, and
the float32 rule behind another format are left out of the counts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from adaptivity import MODELS, batches
from torch import Tensor
from torch.nn import functional

from attattr_batch.engine import layer
from attattr_batch.engine.adaptive import LayerIntegral
from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.spec import MethodSettings

FORMATS = ("float32", "float16", "tf32", "bfloat16")


class Rounded(torch.autograd.Function):
    """A tensor rounded to a format; its gradient is rounded as well."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, dtype: str) -> Tensor:
        """The tensor, rounded."""
        context.dtype = dtype
        return rounded(tensor, dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Its gradient, rounded."""
        return rounded(gradient, context.dtype), None


def through(tensor: Tensor, dtype: str) -> Tensor:
    """The tensor rounded, and its gradient too."""
    found: Tensor = Rounded.apply(tensor, dtype)  # type: ignore[no-untyped-call]
    return found


def rounded(tensor: Tensor, dtype: str) -> Tensor:
    """The nearest numbers of a format, as float32; tf32 has ten bits behind the point and float32's range."""
    if dtype == "tf32":
        return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    return tensor.to(getattr(torch, dtype)).float()


@contextmanager
def imitated(dtype: str, device: torch.device) -> Iterator[None]:
    """Stands for `engine.precision.arithmetic`."""
    if dtype == "float32":
        yield
        return
    linear, attention = functional.linear, functional.scaled_dot_product_attention

    def rounding_linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if given.dim() == 2:  # of the classifier, which has one position left
            return linear(given, weight, bias)
        product = linear(through(given, dtype), rounded(weight, dtype), bias)
        return through(product, dtype)

    def rounding_attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
    ) -> Tensor:
        query, key, value = (through(one, dtype) for one in (query, key, value))
        return through(attention(query, key, value, attn_mask=attn_mask), dtype)

    with (
        mock.patch.object(functional, "linear", rounding_linear),
        mock.patch.object(functional, "scaled_dot_product_attention", rounding_attention),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=MODELS, default="sst2")
    parser.add_argument("--rows", type=int, default=12, help="dev rows, drawn at random")
    options = parser.parse_args()
    exact: Tensor | None = None
    for dtype in FORMATS:
        maxima, certified, pairs = attributed(options.task, options.rows, dtype)
        exact = maxima if exact is None else exact
        off = (maxima - exact).abs().amax((1, 2)) / exact.abs().amax((1, 2))
        print(
            f"{options.task} {dtype:8}: of {pairs} pairs {certified[5]} certified with 5 nodes,"
            f" {certified[9]} with 9; largest difference of a head from float32 {float(off.max()):.1e} of the"
            " row's largest"
        )


def attributed(task: str, n_rows: int, dtype: str) -> tuple[Tensor, Counter[int], int]:
    """Per-head maxima [row, layer, head], pairs that the format itself certified by nodes, and all pairs."""
    certified: Counter[int] = Counter()
    judge = LayerIntegral.judge_rule

    def counting(self: LayerIntegral, told: list[Any]) -> None:
        before = len(self.active)
        judge(self, told)
        if self._dtype == dtype:
            certified[len(self._rule)] += before - len(self.active)

    with (
        mock.patch.object(LayerIntegral, "judge_rule", counting),
        mock.patch.object(layer, "arithmetic", imitated),
    ):
        method = MethodSettings.model_validate({"dtype": dtype})
        found = [
            torch.stack([one.scores.amax((2, 3)) for one in attribute_layers(traced(), items, method)], 1)
            for traced, items in batches(task, n_rows, [])
        ]
    maxima = torch.cat(found)
    return maxima, certified, maxima.shape[0] * maxima.shape[1]


if __name__ == "__main__":
    main()
