"""Copies between host and device: few, because the host waits for the device at each copy from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_host(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Copies tensors of any shapes and types to the host, all of them in one copy.

    The host waits here for everything that the device has been told to do.

    Args:
        tensors: One or more, all on one device.

    Returns:
        An array for each, of its shape and type.
    """
    by_type: dict[torch.dtype, list[int]] = {}
    for place, tensor in enumerate(tensors):
        by_type.setdefault(tensor.dtype, []).append(place)
    # The widest types come first, so that each array begins at a multiple of its own width.
    groups = sorted(by_type.values(), key=lambda places: -tensors[places[0]].element_size())
    joined = [torch.cat([tensors[place].flatten() for place in places]).detach() for places in groups]
    content = torch.cat([one.view(torch.uint8) for one in joined]).cpu().numpy()
    arrays: dict[int, NDArray[Any]] = {}
    start = 0
    for places in groups:
        for place in places:
            end = start + tensors[place].numel() * tensors[place].element_size()
            part = content[start:end].view(_numpy_type(tensors[place].dtype))
            arrays[place], start = part.reshape(tensors[place].shape), end
    return [arrays[place] for place in range(len(tensors))]


def to_device(array: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copies an array to the device, as another type if one is given, without waiting for the device."""
    return torch.from_numpy(array).to(device, dtype, non_blocking=True)


@cache
def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype
