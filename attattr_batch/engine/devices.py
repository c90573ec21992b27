"""CPU or GPU: which one a worker gets, what fits on it, and whether this process can still use its own."""

from __future__ import annotations

import math

import torch

from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings, WorkerPool

_UNSEEN_GPU_BYTES = 24 * 10**9
"""Memory assumed of GPUs that are not on this machine."""

_GRAPH_BYTES = 40
"""What autograd keeps of one BERT layer in float32, for each token and unit of width (counted)."""

_GRADIENT_BYTES = 4 * 4
"""What the gradients of four nodes take in float32, for each token, layer and unit of width."""

_MOST_CHUNK_TOKENS, _MOST_GRADIENT_BYTES = 16_384, 4 * 10**9

_NEEDED_CAPABILITY = {"tf32": (8, 0), "bfloat16": (8, 0)}
"""CUDA compute capability that an arithmetic needs; the others work on any GPU."""


def choose_device(name: str) -> torch.device:
    """Resolves `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for, and this machine has no GPU or torch cannot use it; says why.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise _no_cuda()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _no_cuda() -> UserError:
    """The error for CUDA that cannot be used: no GPU, a driver that is too old, or a torch without CUDA."""
    if torch.version.cuda is None and torch.version.hip is None:
        reason = "which is a build without CUDA"
        hint = "install a torch with CUDA (https://pytorch.org/get-started/locally/), or leave out --device"
    else:
        reason = f"built for CUDA {torch.version.cuda}: {_cuda_trouble()}"
        hint = (
            "compare `nvidia-smi` (GPUs, driver, newest CUDA that it can do) and CUDA_VISIBLE_DEVICES; an old"
            " driver needs an update, or a torch for an older CUDA"
        )
    got = f"--device cuda with torch {torch.__version__}, {reason}"
    return UserError("no CUDA device here", got=got, allowed="auto, cpu", hint=hint)


def _cuda_trouble() -> str:
    """Why CUDA cannot be used, in torch's words: it warns of it only once, but refuses every time."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        return str(error).strip().partition("\n")[0]
    return "torch sees no GPU"


def device_for(machine: MachineSettings) -> str:
    """`cpu` or `cuda`: the device of workers that have one of the GPUs asked for.

    Raises:
        UserError: they are to be on this machine, which has none, or fewer than they need; or a worker is to
            have one GPU and a half.
    """
    pools = machine.workers if isinstance(machine.workers, list) else []
    if uneven := [pool for pool in pools if pool.gpus > 1 and pool.gpus % 1]:
        got, allowed = f"gpus: {uneven[0].gpus:g}", "a part of one GPU, such as 0.5, or whole ones"
        raise UserError("a worker can share one GPU, not several", got=got, allowed=allowed)
    wanted = "cuda" if machine.device == "auto" and any(pool.gpus for pool in pools) else machine.device
    if wanted == "cuda" and machine.address is not None:
        return wanted  # a cluster's GPUs are not seen from here
    device = choose_device(wanted).type
    if machine.address is None:
        _check_gpus(pools or [WorkerPool(count=machine.workers or 1, gpus=float(device == "cuda"))])
    return device


def _check_gpus(pools: list[WorkerPool]) -> None:
    """Refuses more workers than this machine has GPUs for: nobody would ever add the GPU they wait for."""
    there = len(_gpus())
    needed = sum(pool.count * pool.gpus for pool in pools)
    for pool in pools:
        if 0 < pool.gpus < 1:  # a worker has its share of one GPU, so what is left of several may be no room
            needed = max(needed, math.ceil(pool.count / math.floor(1 / pool.gpus)))
    if needed > there + 1e-6:
        raise UserError(
            "the workers ask for more GPUs than this machine has",
            got=f"{'; '.join(map(str, pools))}: {needed:g} GPUs in all, and {there} here",
            allowed=f"at most {there}; workers may share one: in a spec `workers: [{{count: 2, gpus: 0.5}}]`",
            hint="ask for fewer `workers`, or for workers without GPUs with `--device cpu` and no `gpus`",
        )


def check_dtype(dtype: str, device: str) -> None:
    """Refuses an arithmetic that the device cannot do.

    Args:
        dtype: As in `MethodSettings`.
        device: `cpu`, or `cuda` for this process's own GPU.

    Raises:
        UserError: `tf32` on a CPU, or `tf32` or `bfloat16` on a GPU of a generation before Ampere.
    """
    if device == "cpu" and dtype == "tf32":
        raise UserError(
            "a CPU cannot compute in tf32",
            got="--dtype tf32 for workers without a GPU",
            allowed="float32, or auto: what suits the device",
            hint="leave out --dtype, or give --device cuda on a machine with a GPU",
        )
    if device == "cpu" or dtype not in _NEEDED_CAPABILITY:
        return
    found, needed = torch.cuda.get_device_capability(), _NEEDED_CAPABILITY[dtype]
    if found < needed:
        raise UserError(
            f"this GPU cannot compute in {dtype}",
            got=f"--dtype {dtype} on {torch.cuda.get_device_name()}, compute capability {_version(found)}",
            allowed=f"compute capability {_version(needed)} or newer (Ampere); here float32, float16 or auto",
            hint="leave out --dtype, or give one of these",
        )


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def default_batch_tokens(device: str, hidden_size: int, n_layers: int = 12) -> int:
    """Tokens in one forward and backward pass: about half a GB of activations on a CPU.

    On a GPU at most 65,536 that take a third of its memory; beyond, nothing is gained. More than 8,192 gain
    nothing on a CPU, because the activations of small models no longer fit its caches.
    """
    budget, most = 1_500_000, 8_192
    if device != "cpu":
        budget, most = min(50_000_000, gpu_bytes() // 3 // (_GRAPH_BYTES * n_layers)), 65_536
    return max(512, min(most, budget // hidden_size // 256 * 256))


def gpu_chunk_tokens(hidden_size: int, n_layers: int) -> int:
    """Tokens of a chunk on a GPU, padding included: 16,384, less for large models and small cards.

    A chunk keeps the graph of its clean pass and the gradients of four nodes for every layer: at most 4 GB of
    gradients, and a quarter of the card for both.
    """
    a_token = hidden_size * n_layers
    most_bytes = gpu_bytes() // 4 // (_GRAPH_BYTES + _GRADIENT_BYTES)
    budget = min(_MOST_GRADIENT_BYTES // _GRADIENT_BYTES, most_bytes)
    return max(512, min(_MOST_CHUNK_TOKENS, budget // a_token))


def gpu_bytes() -> int:
    """Memory of the smallest GPU of this machine; 24 GB where the workers' GPUs are elsewhere."""
    properties = map(torch.cuda.get_device_properties, _gpus())
    return min((one.total_memory for one in properties), default=_UNSEEN_GPU_BYTES)


def gpu_names() -> list[str]:
    """Names of the CUDA devices of this machine."""
    return [torch.cuda.get_device_name(index) for index in _gpus()]


def _gpus() -> range:
    """Indices of the GPUs that torch can use; `device_count` alone counts those of a too old driver too."""
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)


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
