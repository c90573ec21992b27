"""Devices: why there is no GPU, what one can do and how much fits on it, and whether it is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.fake_cuda import pretend

from attattr_batch.engine.devices import (
    check_dtype,
    choose_device,
    default_batch_tokens,
    gpu_bytes,
    gpu_chunk_tokens,
    gpu_lost,
    gpu_names,
)
from attattr_batch.errors import UserError

BERT_BASE, BERT_LARGE, MINI = (768, 12), (1024, 24), (384, 6)
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update your driver."


def refuse() -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with ...")


def test_a_process_that_uses_no_gpu_has_lost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    assert not gpu_lost()


@pytest.mark.parametrize("lost", [True, False])
def test_what_counts_is_whether_the_gpu_still_answers(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse if lost else lambda: None)
    assert gpu_lost() is lost


@pytest.mark.parametrize(
    ("cuda", "trouble", "said"),
    [
        (None, AssertionError("Torch not compiled with CUDA enabled"), "a build without CUDA"),
        ("13.0", RuntimeError(OLD_DRIVER + "\nAlternatively ..."), f"built for CUDA 13.0: {OLD_DRIVER}\n"),
        ("13.0", RuntimeError("No CUDA GPUs are available"), "CUDA 13.0: No CUDA GPUs are available\n"),
    ],
)
def test_why_there_is_no_cuda_is_said(
    cuda: str | None, trouble: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise trouble

    pretend(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(UserError, match="no CUDA device here") as error:
        choose_device("cuda")
    assert said in str(error.value)
    hint = "install a torch with CUDA" if cuda is None else "an old driver needs an update"
    assert hint in str(error.value)
    assert choose_device("auto").type == "cpu"


def test_gpus_that_the_driver_counts_and_torch_cannot_use_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver that is too old, torch counts GPUs, and refuses to describe them."""
    pretend(monkeypatch)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpu_names() == []
    assert gpu_bytes() == 24 * 10**9


@pytest.mark.parametrize(
    ("dtype", "device", "capability", "said"),
    [
        ("tf32", "cpu", (0, 0), "a CPU cannot compute in tf32"),
        ("tf32", "cuda", (7, 5), "this GPU cannot compute in tf32"),
        ("bfloat16", "cuda", (7, 5), "this GPU cannot compute in bfloat16"),
        ("tf32", "cuda", (8, 0), None),
        ("bfloat16", "cuda", (8, 6), None),
        ("float16", "cuda", (7, 5), None),
        ("auto", "cuda", (7, 5), None),
        ("float32", "cuda", (7, 5), None),
        ("bfloat16", "cpu", (0, 0), None),
        ("float16", "cpu", (0, 0), None),
        ("auto", "cpu", (0, 0), None),
        ("float32", "cpu", (0, 0), None),
    ],
)
def test_an_arithmetic_that_the_device_cannot_do_is_refused(
    dtype: str, device: str, capability: tuple[int, int], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 16, capability=capability, name="Tesla T4")
    if said is None:
        check_dtype(dtype, device)
        return
    with pytest.raises(UserError, match=said) as error:
        check_dtype(dtype, device)
    assert all(part in str(error.value) for part in (f"--dtype {dtype}", "allowed:", "float32", "next:"))
    assert device == "cpu" or "Tesla T4, compute capability 7.5" in str(error.value)


def test_batches_and_chunks_of_a_cpu_do_not_ask_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any) -> Any:
        raise AssertionError("nobody computes on it")

    monkeypatch.setattr(torch.cuda, "get_device_properties", asked)
    assert [default_batch_tokens("cpu", width) for width in (64, 384, 768)] == [8192, 3840, 1792]


@pytest.mark.parametrize(
    ("gib", "shape", "batch", "chunk"),
    [
        (80, BERT_BASE, 65_024, 16_384),
        (80, BERT_LARGE, 28_928, 10_172),
        (80, MINI, 65_536, 16_384),
        (16, BERT_BASE, 15_360, 8_322),
        (8, BERT_BASE, 7_680, 4_161),
        (4, BERT_LARGE, 1_280, 780),
    ],
)
def test_a_gpu_gets_what_its_memory_holds(
    gib: float, shape: tuple[int, int], batch: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 2 * gib, gib)  # the smaller of two decides
    width, layers = shape
    assert default_batch_tokens("cuda", width, layers) == batch
    assert gpu_chunk_tokens(width, layers) == chunk
    # Counted: 40 bytes for each token, layer and unit of width in a pass, 16 for a chunk's gradients.
    a_token = width * layers
    assert (40 * batch + 56 * chunk) * a_token < 0.6 * gib * 2**30
    assert 16 * chunk * a_token <= 4e9


def test_gpus_that_are_elsewhere_are_taken_to_be_of_middle_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert default_batch_tokens("cuda", *BERT_BASE) == 21_504
    assert gpu_chunk_tokens(*BERT_BASE) == 11_625
