"""Number formats of the replays: which are tried, in which order, and how they are switched on.

A replay in a format of less resolution is faster where the device has circuits for it. Its error shows in the
path error, so that what it cannot certify is found, and computed again in the next format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from attattr_batch.choices import DType
from attattr_batch.engine.quadrature import NESTED_SIZES, Rule, nested

_COARSE = 1e-2
"""Smallest tolerance at which three nodes may do; they let errors of 0.4 % of the largest head pass."""

_ROUNDING = {"bfloat16": 0.02, "float16": 0.0, "tf32": 0.0}
"""Path error that a format may cause by itself. Only where more than that is accepted is it worth trying more
nodes than those of the first rule in it."""

_ON_CUDA = {"auto": ("float16", "tf32", "float32")}
_ON_CPU = {"auto": ("float32",)}


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


def attempts(dtype: DType, accepted: float, sizes: tuple[int, ...], device: torch.device) -> list[Attempt]:
    """The rules to try, in order; behind the last, in float32, come meshes.

    A format that is not exact tries the first rule, and the larger ones if it is fine enough for the path
    error asked for. What it has not certified is tried again in the next format.

    Args:
        dtype: Number format asked for.
        accepted: Largest path error accepted.
        sizes: From `nested_sizes`.
        device: Where the replays run.
    """
    found: list[Attempt] = []
    level = 1
    for name in formats(dtype, device):
        fine = accepted >= _ROUNDING.get(name, 0.0)
        last = len(sizes) if fine else min(level + 1, len(sizes))
        for place in range(level, last):
            found.append(Attempt(nested(sizes[place]), nested(sizes[place - 1]), name))
        level = min(last, len(sizes) - 1)
    return found


def formats(dtype: DType, device: torch.device) -> tuple[str, ...]:
    """Number formats in the order in which they are tried; the last is float32."""
    known = _ON_CUDA if device.type == "cuda" else _ON_CPU
    return known.get(dtype, tuple(dict.fromkeys((dtype, "float32"))))


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
