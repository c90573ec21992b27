"""CPU or GPU: which one a worker gets, and whether this process can still use its own."""

from __future__ import annotations

import torch

from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings


def choose_device(name: str) -> torch.device:
    """Resolves `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for and this machine has no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device here", got="--device cuda", allowed="auto, cpu", hint="`attattr doctor`"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_for(machine: MachineSettings) -> str:
    """`cpu` or `cuda`: the device of workers that have one of the GPUs asked for.

    Raises:
        UserError: they are to be on this machine, which has none.
    """
    pools = machine.workers if isinstance(machine.workers, list) else []
    wanted = "cuda" if machine.device == "auto" and any(pool.gpus for pool in pools) else machine.device
    if wanted == "cuda" and machine.address is not None:
        return wanted  # a cluster's GPUs are not seen from here
    return choose_device(wanted).type


def default_batch_tokens(device: str, hidden_size: int) -> int:
    """Tokens in one forward and backward pass: about half a GB of activations on a CPU, 16 GB on a GPU.

    More than 8,192 gain nothing on a CPU, because the activations of small models no longer fit its caches.
    """
    budget, most = (1_500_000, 8_192) if device == "cpu" else (50_000_000, 65_536)
    return max(512, min(most, budget // hidden_size // 256 * 256))


def gpu_names() -> list[str]:
    """Names of the CUDA devices of this machine."""
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def gpu_lost() -> bool:
    """Whether CUDA refuses all further work of this process, as it does after a device-side assert.

    Then only another process can go on. Running out of memory is no such error.
    """
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
