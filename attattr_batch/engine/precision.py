"""Number formats of the replays: which are tried, in which order, and how they are switched on.

A replay in a format of less resolution is faster where the device has circuits for it. Its error shows in the
path error, so that what it cannot certify is found, and computed again in the next format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch

from attattr_batch.choices import DType
from attattr_batch.engine.quadrature import NESTED_SIZES, Rule, nested

_COARSE = 1e-2
"""Smallest tolerance at which three nodes may do; they let errors of 0.4 % of the largest head pass."""


@dataclass(frozen=True)
class Attempt:
    """A rule to try on the items that are not certified yet.

    Attributes:
        rule: The rule.
        coarser: The nested rule before it, which judges it.
        dtype: Number format of its replays.
    """

    rule: Rule
    coarser: Rule
    dtype: str


def nested_sizes(tolerance: float) -> tuple[int, ...]:
    """Sizes of the nested rules tried in turn; the first only serves to judge the second."""
    return NESTED_SIZES if tolerance >= _COARSE else NESTED_SIZES[1:]


def attempts(dtype: DType, tolerance: float, device: torch.device) -> list[Attempt]:
    """The rules to try, in order; behind the last, in float32, come meshes.

    A format that is not exact tries all rules. What the largest has not certified, because of rounding or
    because F is steep, is tried by that rule again in float32.

    Args:
        dtype: Number format asked for.
        tolerance: Of the run.
        device: Where the replays run.
    """
    sizes = nested_sizes(tolerance)
    rules = [(nested(size), nested(coarser)) for coarser, size in pairwise(sizes)]
    first, *exact = formats(dtype, device)
    return [Attempt(*rule, first) for rule in rules] + [Attempt(*rules[-1], name) for name in exact]


def formats(dtype: DType, device: torch.device) -> tuple[str, ...]:
    """Number formats in the order in which they are tried; the last is float32.

    `auto` takes float16 on a GPU. tf32 resolves no more, so it would not certify what float16 does not.
    """
    if dtype == "auto":
        return ("float16", "float32") if device.type == "cuda" else ("float32",)
    return (dtype,) if dtype == "float32" else (dtype, "float32")


@contextmanager
def arithmetic(dtype: str, device: torch.device) -> Iterator[None]:
    """Has matrix products computed in a number format; `float32` means true float32, whatever torch was told.

    Args:
        dtype: `float32`, `tf32`, `float16` or `bfloat16`.
        device: Where the products are computed.
    """
    if dtype in ("float16", "bfloat16"):
        with torch.autocast(device.type, dtype=getattr(torch, dtype)):
            yield
        return
    products = (torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn).matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before
