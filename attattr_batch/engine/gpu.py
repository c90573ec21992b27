"""Whether this process can still use its GPU."""

from __future__ import annotations

import torch


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
