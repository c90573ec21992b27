"""What the engine benchmark works on: chunks of real or bundled rows, and random encoders of given shapes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from arithmetic import Shape
from transformers import BertConfig, BertForSequenceClassification

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.devices import default_batch_tokens
from attattr_batch.engine.families import encoder_for
from attattr_batch.engine.families._layered import LayeredEncoder
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.passes.model_work import ModelWorker
from attattr_batch.passes.planning import plan_attribution
from attattr_batch.spec import MethodSettings, make_spec

FOLDERS = {"sst2": "SST-2", "mnli": "MNLI", "rte": "RTE"}
SHAPES = {
    "six layers, 384": Shape(6, 384, 1536),
    "BERT-base": Shape(12, 768, 3072),
    "BERT-large": Shape(24, 1024, 4096),
}
HEAD_WIDTH = {384: 32, 768: 64, 1024: 64}


@dataclass(frozen=True)
class Workload:
    """Chunks as a run would hand them out, and the worker for them.

    Attributes:
        name: For people.
        worker: Attributes the gold class.
        chunks: What it is given.
        outputs: Model output by dataset label.
    """

    name: str
    worker: ModelWorker
    chunks: list[Chunk]
    outputs: tuple[int, ...]

    @property
    def encoder(self) -> LayeredEncoder:
        """The classifier as the engine sees it."""
        encoder = self.worker.encoder
        assert isinstance(encoder, LayeredEncoder)
        return encoder

    @property
    def model(self) -> Any:
        """The classifier."""
        return self.encoder.model

    @property
    def batch_tokens(self) -> int:
        """Tokens that a run would replay at once."""
        return self.worker.work.batch_tokens

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return Shape.of(self.model.config)

    @property
    def rows(self) -> list[EncodedExample]:
        """All rows of the chunks."""
        return [example for chunk in self.chunks for example in chunk.examples]

    def label(self, example: EncodedExample) -> int:
        """The model's output for the gold label."""
        assert example.gold is not None
        return self.outputs[example.gold]


def task_workload(task: str, n_chunks: int, n_rows: int) -> Workload:
    """A task's fine-tuned model on evenly spaced chunks of its dev set, cut to `n_rows` rows each."""
    real = os.environ.get("ATTATTR_REAL_DATA")
    model = str(Path(real) / "models" / FOLDERS[task]) if real else "bundled"
    data = str(Path(real) / "data" / "glue") if real else "bundled"
    plan = plan_attribution(
        make_spec({"task": task, "model": model, "data_dir": data, "target": "gold", "device": "cpu"})
    )
    chunks = plan.chunks([example.example_id for example in plan.examples])
    at = [len(chunks) * (2 * i + 1) // (2 * n_chunks) for i in range(n_chunks)]
    chosen = [Chunk(chunks[i].examples[:n_rows]) for i in dict.fromkeys(at)]
    name = f"{task}, {'fine-tuned checkpoint' if real else 'bundled model'}"
    return Workload(name, plan.work.start(), chosen, plan.work.outputs)


def random_workload(name: str, shape: Shape, length: int, n_rows: int) -> Workload:
    """An encoder with random weights on random rows of one length."""
    config = BertConfig(
        vocab_size=1000,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // HEAD_WIDTH.get(shape.width, 16),
        intermediate_size=shape.inner,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
        ids = torch.randint(5, 1000, (n_rows, length)).tolist()
    examples = tuple(
        EncodedExample(row, tuple(tokens), (0,) * length, (0,) * length, row % 2, False)
        for row, tokens in enumerate(ids)
    )
    work = AttributeWork(
        source=ModelSource("random", Path()),
        device="cpu",
        outputs=(0, 1),
        batch_tokens=default_batch_tokens("cpu", shape.width),
        method=MethodSettings(target="gold"),
    )
    return Workload(name, ModelWorker(work, encoder_for(model)), [Chunk(examples)], (0, 1))
