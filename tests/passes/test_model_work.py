"""Chunks of a GPU, and examples that do not fit on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
import torch
from helpers.fabricate import facts, new_store, register, rows
from helpers.fake_cuda import pretend

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.families import Encoder
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.errors import UserError
from attattr_batch.passes.model_work import (
    CHUNK_EXAMPLES,
    GPU_CHUNK_EXAMPLES,
    ModelWork,
    ModelWorker,
    Plan,
    chunk_limits,
)
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.spec import MachineSettings

WIDTH, LAYERS = 768, 12
MIXED = [{"gpus": 1, "count": 8}, {"cpus": 4, "count": 2}]


@dataclass(frozen=True, kw_only=True)
class SmallGpu(ModelWork):
    """Work on a GPU that holds so many tokens, padding included; its rows are made up.

    Attributes:
        room: These tokens.
        tried: Tokens of the examples of each chunk.
    """

    room: int
    tried: list[tuple[int, ...]]

    def start(self) -> ModelWorker:
        return ModelWorker(self, cast(Encoder, None))

    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        self.tried.append(tuple(one.n_tokens for one in chunk.examples))
        if max(self.tried[-1]) * len(chunk.examples) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee ...")
        for one in chunk.examples:
            assert len(one.segments) == len(one.input_ids) == len(one.token_type_ids or ())
        return facts(chunk.example_ids)


def small_gpu(room: int, device: str = "cuda", batch_tokens: int = 16_384) -> SmallGpu:
    source = ModelSource("none", Path("nowhere"))
    return SmallGpu(
        source=source, device=device, outputs=(0, 1), batch_tokens=batch_tokens, room=room, tried=[]
    )


def examples(*lengths: int) -> list[EncodedExample]:
    return [
        EncodedExample(i, (1,) * length, (0,) * length, (0,) * length, i % 2, False)
        for i, length in enumerate(lengths)
    ]


def limits(machine: dict[str, Any], **work: Any) -> tuple[int, int]:
    return chunk_limits(small_gpu(0, **work), MachineSettings(**machine), WIDTH, LAYERS)


def test_a_chunk_of_a_gpu_is_cut_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 80)
    tokens, most = chunk_limits(small_gpu(0), MachineSettings(), WIDTH, LAYERS)
    plan = Plan(
        work=small_gpu(0),
        examples=examples(*[40] * 1000, *[8] * 3000),
        hidden_size=WIDTH,
        chunk_tokens=tokens,
        chunk_examples=most,
        flop_per_token=1.0,
    )
    chunks = plan.chunks(plan.example_ids)
    assert [len(chunk.examples) for chunk in chunks[:2]] == [409, 409]
    assert max(len(chunk.examples) for chunk in chunks) == GPU_CHUNK_EXAMPLES


@pytest.mark.parametrize(
    ("machine", "work", "expected"),
    [
        ({}, {}, (16_384, GPU_CHUNK_EXAMPLES)),
        ({"workers": [{"gpus": 0.5, "count": 2}]}, {}, (16_384, GPU_CHUNK_EXAMPLES)),
        ({"workers": MIXED}, {}, (16_384, CHUNK_EXAMPLES)),
        ({"batch_tokens": 2048}, {"batch_tokens": 2048}, (2048, GPU_CHUNK_EXAMPLES)),
        ({}, {"device": "cpu", "batch_tokens": 3840}, (3840, CHUNK_EXAMPLES)),
        ({"workers": MIXED}, {"device": "cpu", "batch_tokens": 3840}, (3840, CHUNK_EXAMPLES)),
    ],
)
def test_where_cpus_compute_a_chunk_stays_small(
    machine: dict[str, Any],
    work: dict[str, Any],
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, 80, 80)
    assert limits(machine, **work) == expected


def test_an_example_too_long_for_the_gpu_is_quarantined_and_says_which_length_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, 8)
    store, work = new_store(tmp_path), small_gpu(room=130)
    register(store, 6)
    plan = examples(200, 190, 120, 60, 60, 60)
    driver = Driver(store, 1, LocalExecutor(work), lambda progress: None)
    progress = driver.execute([Chunk(tuple(plan))], Progress(6, 0, 0))
    assert (progress.newly_committed, progress.quarantined) == (4, 2)
    (first, error), (second, _) = rows(store, "SELECT message, error FROM quarantine ORDER BY example_id")
    assert error == "OutOfMemoryError"
    assert "with 8.0 GiB, is too small for an example of 200 tokens" in first
    assert "a run with `--max-length 125`, which fits" in first  # five eighths; six are 150
    assert "`--retry-errors --batch-tokens 200` (now 16384)" in first
    assert first.endswith("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert "190 tokens" in second and "--max-length 125" in second
    tried = [one for one in work.tried if len(one) == 1 and one[0] in (175, 150, 125)]
    assert tried == [(175,), (150,), (125,)], "the length is looked for once"


def test_a_gpu_that_holds_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 8)
    worker = small_gpu(room=0, batch_tokens=128).start()
    with pytest.raises(torch.OutOfMemoryError) as error:
        worker.compute(Chunk(tuple(examples(100))))
    assert "--max-length" not in str(error.value) and "--batch-tokens" not in str(error.value)
    assert "next: a run with `--device cpu`" in str(error.value)


def test_several_examples_that_do_not_fit_together_are_no_reason_for_trials() -> None:
    worker = small_gpu(room=150).start()
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory"):
        worker.compute(Chunk(tuple(examples(100, 90))))
    assert cast(SmallGpu, worker.work).tried == [(100, 90)]


def test_a_model_that_does_not_fit_is_said_without_a_traceback() -> None:
    class NoRoom(SmallGpu):
        def start(self) -> ModelWorker:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee ...")

    work = NoRoom(**vars(small_gpu(0)))
    with pytest.raises(UserError, match="cannot be put on the GPU\n.*2.00 GiB.\n.*nvidia-smi"):
        LocalExecutor(work).wait(1.0)


def test_a_worker_checks_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver sees another GPU than the worker, or none."""

    class InBfloat16(SmallGpu):
        @property
        def dtype(self) -> str:
            return "bfloat16"

    pretend(monkeypatch, 16, capability=(7, 5))
    work = InBfloat16(**vars(small_gpu(0)))
    with pytest.raises(UserError, match="cannot compute in bfloat16"):
        ModelWork.start(work)
