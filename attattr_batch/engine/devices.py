"""CPU or GPU: which one is taken, which there are, and whether this process can still use its own."""

from __future__ import annotations

import torch

from attattr_batch.errors import UserError


def choose_device(name: str) -> torch.device:
    """Resolves `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device here", got="--device cuda", allowed="auto, cpu", hint="`attattr doctor`"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def gpu_names() -> list[str]:
    """Names of the CUDA devices of this machine."""
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def gpu_lost() -> bool:
    """Whether CUDA refuses all work of this process from now on, as it does after a device-side assert.

    Only another process can go on then. Running out of memory is no such error.
    """
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
