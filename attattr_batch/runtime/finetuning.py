"""Fine-tuning a GLUE classifier as in the BERT paper (arXiv 1810.04805, appendix A.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attattr_batch.data.encoding import encode
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.families import check_family
from attattr_batch.engine.model_source import find_model
from attattr_batch.engine.models import load_config, load_tokenizer, token_limit
from attattr_batch.engine.training import TrainingSettings, train_classifier
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings, make_settings


@dataclass(frozen=True)
class FinetuneSettings:
    """What to train; see `attattr finetune --help`."""

    task: str
    base: str
    data_dir: str | None
    output: Path
    epochs: float
    learning_rate: float
    batch_size: int
    max_length: int
    limit: int | None
    seed: int


def finetune_task(settings: FinetuneSettings) -> float:
    """Trains on the train split, writes the checkpoint to `output`, and returns dev accuracy.

    Raises:
        UserError: task, base model, data or output folder cannot be used.
    """
    _make_folder(settings.output)
    rows = {"task": settings.task, "data_dir": settings.data_dir}
    train = load_dataset_for(make_settings(DataSettings, {**rows, "split": "train", "limit": settings.limit}))
    dev = load_dataset_for(make_settings(DataSettings, rows))
    for dataset in (train, dev):
        if not dataset.labelled:
            raise UserError("the split has rows without labels", got=dataset.source)
    source = find_model(settings.base)
    tokenizer = load_tokenizer(source)
    config = load_config(source)
    check_family(config)
    max_length = min(settings.max_length, token_limit(config, tokenizer))
    training = TrainingSettings(
        labels=train.labels,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    encoded = (encode(train, tokenizer, max_length), encode(dev, tokenizer, max_length))
    return train_classifier(source, tokenizer, encoded, training, settings.output)


def _make_folder(output: Path) -> None:
    """Makes the output folder before the training, not after it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        empty = not any(output.iterdir())
    except OSError as error:
        raise UserError("the output folder cannot be made", got=f"{output}: {error.strerror}") from error
    if not empty:
        raise UserError("the output folder is not empty", got=output, hint="give a new folder")
