"""Fine-tunes a GLUE classifier as in the BERT paper (arXiv 1810.04805, appendix A.3)."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from attattr_batch.data.encoding import encode
from attattr_batch.data.records import EncodedExample
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.families import check_family, collate
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.engine.models import (
    first_of,
    load_config,
    load_tokenizer,
    quiet_transformers,
    read_weights,
    token_limit,
)
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings, FinetuneSettings, make_settings

log = logging.getLogger(__name__)

_WARMUP = 0.1
_REPORTED = 0.1


def finetune_task(settings: FinetuneSettings) -> float:
    """Trains on the train split and writes a checkpoint (safetensors, tokenizer, `finetune.json`).

    Returns:
        Accuracy on the dev split, in float32.

    Raises:
        UserError: task, base model, data or output folder cannot be used.
    """
    _make_folder(settings.output)
    rows = {"task": settings.task, "data_dir": settings.data_dir}
    train = load_dataset_for(make_settings(DataSettings, {**rows, "split": "train", "limit": settings.limit}))
    dev = load_dataset_for(make_settings(DataSettings, rows))
    for dataset in (train, dev):
        if any(example.gold is None for example in dataset):
            raise UserError("the split has rows without labels", got=dataset.source)
    source = find_model(settings.base)
    tokenizer, config = load_tokenizer(source), load_config(source)
    check_family(config)
    max_length = min(settings.max_length, token_limit(config, tokenizer))
    set_seed(settings.seed)
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        model = _load_base(source, config, train.labels)
        trainer = Trainer(
            model=model,
            args=_arguments(settings, scratch),
            train_dataset=encode(train, tokenizer, max_length),
            data_collator=lambda batch: _inputs(batch, model.config.pad_token_id or 0),
            callbacks=[_Report()],
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout
        trainer.train()
        dev_answers = trainer.predict(encode(dev, tokenizer, max_length))
        # Not `trainer.save_model`: it adds its arguments as a pickle.
        model.save_pretrained(settings.output)
    tokenizer.save_pretrained(settings.output)
    accuracy = float((dev_answers.predictions.argmax(-1) == dev_answers.label_ids).mean())
    record = {
        "dev_acc": accuracy,
        "n_train": len(train),
        "labels": train.labels,
        **settings.model_dump(mode="json"),
    }
    document = json.dumps(record, indent=1)
    (settings.output / "finetune.json").write_text(document + "\n", encoding="utf-8")
    return accuracy


class _Report(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Logs the loss now and then."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the trainer."""
        if "loss" in (facts := kwargs["logs"]):
            log.info("step %d of %d, loss %.4f", state.global_step, state.max_steps, float(facts["loss"]))


def _make_folder(output: Path) -> None:
    """Makes the output folder before the training, not after it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        empty = not any(output.iterdir())
    except OSError as error:
        raise UserError("the output folder cannot be made", got=f"{output}: {error.strerror}") from error
    if not empty:
        raise UserError("the output folder is not empty", got=output, hint="give a new folder")


def _load_base(source: ModelSource, config: Any, labels: Sequence[str]) -> PreTrainedModel:
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: index for index, name in enumerate(labels)}
    model, info = read_weights(source, config)
    # A new head is meant to be random, and checkpoints of language models lack the pooler.
    body = f"{model.base_model_prefix}."
    missing = sorted(key for key in info["missing_keys"] if key.startswith(body) and "pooler" not in key)
    if missing:
        raise UserError(
            "the base model lacks weights of the encoder, so they would be random",
            got=f"{source.folder} without {first_of(missing)}",
        )
    return model


def _arguments(settings: FinetuneSettings, scratch: str) -> TrainingArguments:
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
