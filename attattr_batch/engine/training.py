"""Training a sequence classifier with transformers' Trainer."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from attattr_batch.data.records import EncodedExample
from attattr_batch.engine.families import collate
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_config, quiet_transformers, read_weights
from attattr_batch.errors import UserError

log = logging.getLogger(__name__)

_WARMUP = 0.1
_REPORTED = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters.

    Attributes:
        labels: Label names; index = class id of the trained head.
        epochs: Passes over the training rows.
        learning_rate: Peak of the linear schedule, which warms up over a tenth of the steps.
        batch_size: Rows in a step.
        seed: Seed of the head's initialisation and of the order of rows.
    """

    labels: tuple[str, ...]
    epochs: float
    learning_rate: float
    batch_size: int
    seed: int


def train_classifier(
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    rows: tuple[Sequence[EncodedExample], Sequence[EncodedExample]],
    settings: TrainingSettings,
    output: Path,
) -> float:
    """Fine-tunes and writes a checkpoint (safetensors, tokenizer, `finetune.json`).

    Args:
        source: The encoder to start from.
        tokenizer: Its tokenizer.
        rows: Training rows and development rows.
        settings: Hyperparameters.
        output: Folder to write.

    Returns:
        Accuracy on the development rows, in float32.

    Raises:
        UserError: the encoder cannot be loaded.
    """
    set_seed(settings.seed)
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        model = _load_base(source, settings.labels)
        trainer = Trainer(
            model=model,
            args=_arguments(settings, scratch),
            train_dataset=list(rows[0]),
            eval_dataset=list(rows[1]),
            data_collator=lambda batch: _inputs(batch, model.config.pad_token_id or 0),
            compute_metrics=_accuracy,
            callbacks=[_Report()],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout
        trainer.train()
        accuracy = float(trainer.evaluate()["eval_accuracy"])
        # Not `trainer.save_model`: it adds its arguments as a pickle.
        model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    record = {"base": source.name, "dev_acc": accuracy, "n_train": len(rows[0]), **asdict(settings)}
    (output / "finetune.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return accuracy


class _Report(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Logs the loss now and then."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer."""
        if "loss" in (facts := kwargs["logs"]):
            log.info("step %d of %d, loss %.4f", state.global_step, state.max_steps, float(facts["loss"]))


def _load_base(source: ModelSource, labels: Sequence[str]) -> PreTrainedModel:
    config = load_config(source)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: index for index, name in enumerate(labels)}
    model, info = read_weights(source, config)
    # A new head is meant to be random, and checkpoints of language models lack the pooler.
    body = f"{model.base_model_prefix}."
    missing = sorted(key for key in info["missing_keys"] if key.startswith(body) and "pooler" not in key)
    if missing:
        raise UserError(
            "the base model lacks weights of the encoder, so they would be random",
            got=f"{source.folder} without {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}",
        )
    return model


def _arguments(settings: TrainingSettings, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=64,
        warmup_steps=_WARMUP,
        weight_decay=0.01,
        lr_scheduler_type="linear",
        seed=settings.seed,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        logging_steps=_REPORTED,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _inputs(batch: Sequence[EncodedExample], pad_token_id: int) -> dict[str, torch.Tensor]:
    inputs = collate(batch, pad_token_id, torch.device("cpu")).model_inputs()
    return {**inputs, "labels": torch.tensor([example.gold for example in batch])}


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}
