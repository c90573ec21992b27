"""What the GPU benchmark works on, and how it times it: made-up encoders and rows, one machine's rates.

Needs torch, and for all but the rates transformers and pydantic; the rows for the store need pyarrow too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from arithmetic import Shape, clean, replay
from torch.nn import functional as F

BASE, LARGE = Shape(12, 768, 3072), Shape(24, 1024, 4096)

LENGTHS = (6, 15, 18, 21, 23, 26, 28, 30, 32, 34, 36, 38, 41, 43, 46, 49, 53, 57, 63, 72, 128)
"""Tokens of MNLI's matched dev set, cut at 128: every twentieth part of its 9,815 rows lies between two of
these. Between them lengths are drawn evenly, which gives 40 tokens a row on average; the rows have 39."""


def lengths(count: int, longest: int = 128) -> list[int]:
    """Tokens of that many rows of MNLI's lengths; the same for the same count."""
    place = np.random.default_rng(0).random(count) * (len(LENGTHS) - 1)
    drawn = np.interp(place, np.arange(len(LENGTHS)), LENGTHS).astype(int)
    return np.minimum(drawn, longest).tolist()


def synchronise(device: torch.device) -> None:
    """Waits for what was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def products_in(dtype: str, device: torch.device) -> Iterator[torch.dtype]:
    """The type of the operands of products in a dtype; switches TF32 on for `tf32` and off for others."""
    if device.type == "cuda":
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
    try:
        yield torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    finally:
        if device.type == "cuda":
            torch.backends.cuda.matmul.fp32_precision = before


def matrix_rate(dtype: str, sizes: tuple[int, int, int], device: torch.device, seconds: float) -> float:
    """Operations a second of a product of [tokens, width] by [inner, width], random numbers: the median.

    Args:
        dtype: `float32`, `tf32`, `float16` or `bfloat16`.
        sizes: tokens, width, inner.
        device: Where.
        seconds: How long is measured, about.
    """
    tokens, width, inner = sizes
    with products_in(dtype, device) as kind:
        left = torch.randn(tokens, width, device=device).to(kind)
        weight = torch.randn(inner, width, device=device).to(kind)
        took: list[float] = []
        for _ in range(3):
            F.linear(left, weight)
        synchronise(device)
        while sum(took) < seconds and len(took) < 200:
            started = time.perf_counter()
            for _ in range(5):
                F.linear(left, weight)
            synchronise(device)
            took.append((time.perf_counter() - started) / 5)
    return 2 * tokens * width * inner / float(np.median(took))


def random_encoder(shape: Shape, device: torch.device, spread: float) -> Any:
    """A BERT classifier of three classes with random weights, as the engine sees it.

    Args:
        shape: Its sizes; heads are 64 wide, or 16 in a tiny one.
        device: Where it is made.
        spread: Standard deviation of its weights.
    """
    from transformers import BertConfig, BertForSequenceClassification

    from attattr_batch.engine.families import encoder_for

    config = BertConfig(
        vocab_size=1000,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(1, shape.width // (64 if shape.width >= 256 else 16)),
        intermediate_size=shape.inner,
        num_labels=3,
        initializer_range=spread,
    )
    torch.manual_seed(0)
    with device:
        model = BertForSequenceClassification(config).eval()
    return encoder_for(model.to(device))


def random_chunks(count: int, tokens: int, most: int, longest: int = 128) -> list[Any]:
    """Rows of MNLI's lengths, cut into chunks as a run cuts them.

    Args:
        count: Rows.
        tokens: Tokens of a chunk at most, padding included.
        most: Rows of a chunk at most.
        longest: Tokens of a row at most.
    """
    from attattr_batch.data.records import EncodedExample, make_chunks

    draw = np.random.default_rng(1)
    rows = []
    for row, length in enumerate(lengths(count, longest)):
        ids = tuple(draw.integers(5, 1000, length).tolist())
        rows.append(EncodedExample(row, ids, (0,) * length, (0,) * length, row % 3, False))
    return make_chunks(rows, tokens, most)


@dataclass(frozen=True)
class Measured:
    """What attributing some chunks came to.

    Attributes:
        rows: Rows attributed.
        seconds: Wall time.
        operations: Floating-point operations needed, by closed form (benchmarks/arithmetic.py): the clean
            pass and the replays of the accepted rule, over real tokens. Padding, and replays whose result
            was not accepted, are time but no operations.
        nodes: Nodes of the accepted rule, on average over (row, layer).
        certified: Share of the (row, layer) pairs that are certified.
        peak: Bytes of device memory at the most; 0 on a CPU.
    """

    rows: int
    seconds: float
    operations: float
    nodes: float
    certified: float
    peak: int


def attribute(encoder: Any, chunk: Any, method: Any, batch_tokens: int) -> list[Any]:
    """Attributes the gold class of a chunk's rows; statistics for the store are left out.

    Returns:
        For each layer, nodes and certificates of the rows, on the device.
    """
    from attattr_batch.engine.attribution import attribute_layers
    from attattr_batch.engine.families import collate
    from attattr_batch.engine.path import Items

    trace = encoder.trace(collate(chunk.examples, encoder.pad_token_id, encoder.device))
    gold = torch.tensor([example.gold for example in chunk.examples], device=encoder.device)
    items = Items(torch.arange(len(gold), device=encoder.device), gold)
    return [(one.nodes, one.certified) for one in attribute_layers(trace, items, method, batch_tokens)]


def measure(encoder: Any, shape: Shape, chunks: Sequence[Any], method: Any, batch_tokens: int) -> Measured:
    """Attributes the first chunk once to warm up, then all of them against the clock."""
    attribute(encoder, chunks[0], method, batch_tokens)
    synchronise(encoder.device)
    if encoder.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    found = [attribute(encoder, chunk, method, batch_tokens) for chunk in chunks]
    synchronise(encoder.device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if encoder.device.type == "cuda" else 0
    operations, nodes, certified = 0.0, [], []
    for chunk, layers in zip(chunks, found, strict=True):
        tokens = [example.n_tokens for example in chunk.examples]
        operations += sum(clean(shape, one) for one in tokens)
        for layer, (used, accepted) in enumerate(layers):
            nodes += used.tolist()
            certified += accepted.tolist()
            for length, count in zip(tokens, used.tolist(), strict=True):
                operations += replay(shape, layer, length) * (count - 1)  # the one at 1 is the clean pass
    rows = sum(len(chunk.examples) for chunk in chunks)
    return Measured(rows, seconds, operations, float(np.mean(nodes)), float(np.mean(certified)), peak)


def launches(call: Callable[[], Any], device: torch.device) -> tuple[int, int]:
    """Kernels that a call launches, copies included, and how often the host waits for the device.

    On a CPU the operators of torch are counted instead, and no waits.
    """
    from torch.profiler import ProfilerActivity, profile

    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiled:
        call()
        synchronise(device)
    events = profiled.key_averages()
    if not gpu:
        return sum(event.count for event in events if event.key.startswith("aten::")), 0
    kernels = sum(event.count for event in events if event.device_type.name == "CUDA")
    return kernels, sum(event.count for event in events if "Synchronize" in event.key) - 1
