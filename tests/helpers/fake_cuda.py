"""GPUs as torch describes them, on a machine that has none; nothing can be computed on them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


def pretend(
    patch: pytest.MonkeyPatch, *gib: float, capability: tuple[int, int] = (9, 0), name: str = "a GPU"
) -> None:
    """Has torch describe a GPU of each of these sizes (GiB); none: it sees no GPU."""
    sizes = [SimpleNamespace(total_memory=int(one * 2**30), name=name) for one in gib]
    patch.setattr(torch.cuda, "is_available", lambda: bool(sizes))
    patch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    patch.setattr(torch.cuda, "get_device_properties", lambda index=0: sizes[index])
    patch.setattr(torch.cuda, "get_device_name", lambda index=0: name)
    patch.setattr(torch.cuda, "get_device_capability", lambda index=0: capability)
