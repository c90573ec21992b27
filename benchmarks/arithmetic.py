"""Floating-point operations that attribution needs, and the matrix-product rate of this machine.

Counted are the matrix products of a BERT-style encoder over real tokens, two operations a multiply-add: no
padding, no recomputation, nothing elementwise. A backward pass to the context vectors costs a linear map what
its forward costs, and attention twice its forward.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional as F

DType = Literal["float32", "bfloat16"]
DTYPES: dict[DType, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder: layers, width, width of the feed-forward network."""

    layers: int
    width: int
    inner: int

    @staticmethod
    def of(config: Any) -> Shape:
        """Reads them from a transformers configuration."""
        return Shape(config.num_hidden_layers, config.hidden_size, config.intermediate_size)


def replay(shape: Shape, layer: int, tokens: int, *, backward: bool = True) -> float:
    """One pass from `layer`'s output projection upward; the last layer for the first token alone."""
    linear, attention = _after(shape, _reach(shape, layer, tokens)), 0.0
    for upper in range(layer + 1, shape.layers):
        reach = _reach(shape, upper, tokens)
        linear += _projections(shape, tokens, reach) + _after(shape, reach)
        attention += 4 * reach * tokens * shape.width
    return 2 * linear + 3 * attention if backward else linear + attention


def clean(shape: Shape, tokens: int) -> float:
    """The clean pass with its backward, and attention and scores of every layer."""
    passes = replay(shape, 0, tokens) + _projections(shape, tokens, tokens)
    matrices = 0.0
    for layer in range(shape.layers):
        reach = _reach(shape, layer, tokens)
        matrices += _projections(shape, tokens, tokens) + 4 * reach * tokens * shape.width
    return passes + matrices


def matrix_rate(shape: Shape, dtype: torch.dtype, tokens: int = 2048, seconds: float = 0.5) -> float:
    """Operations a CPU second of the encoder's widest product: the fastest of those done in `seconds`."""
    left = torch.randn(tokens, shape.width).to(dtype)
    weight = torch.randn(shape.inner, shape.width).to(dtype)
    fastest, until = float("inf"), time.process_time() + seconds
    while time.process_time() < until:
        started = time.process_time()
        F.linear(left, weight)
        fastest = min(fastest, time.process_time() - started)
    return 2 * tokens * shape.width * shape.inner / fastest


def _reach(shape: Shape, layer: int, tokens: int) -> int:
    return 1 if layer == shape.layers - 1 else tokens


def _projections(shape: Shape, tokens: int, reach: int) -> float:
    return 2 * (2 * tokens + reach) * shape.width**2


def _after(shape: Shape, reach: int) -> float:
    return 2 * reach * shape.width * (shape.width + 2 * shape.inner)
