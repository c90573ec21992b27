"""The device of the tests marked `gpu`: a CUDA device, or in a rehearsal the CPU.

With ATTATTR_GPU_REHEARSAL=cpu the same tests run where there is no GPU, so that it shows whether they run at
all. What a CPU cannot show is skipped there with its reason.
"""

from __future__ import annotations

import os

import pytest
import torch

REHEARSAL = os.environ.get("ATTATTR_GPU_REHEARSAL") == "cpu"
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")

MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not REHEARSAL and not torch.cuda.is_available(),
        reason="no CUDA device here; ATTATTR_GPU_REHEARSAL=cpu runs the tests on the CPU",
    ),
]
"""The marks of every module in tests/gpu."""

DTYPES = ("float32", "tf32", "float16", "bfloat16")
"""Arithmetics of the replays, the most exact first."""


def only_cuda(why: str) -> pytest.MarkDecorator:
    """Skips a test in a rehearsal."""
    return pytest.mark.skipif(REHEARSAL, reason=f"rehearsal on the CPU: {why}")


def skip_lacking(dtype: str) -> None:
    """Skips a test whose arithmetic this device does not have."""
    if REHEARSAL and dtype == "tf32":
        pytest.skip("rehearsal on the CPU: only CUDA devices have TF32")
