"""Fine-tuning a GLUE classifier as in the BERT paper (arXiv 1810.04805, appendix A.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attattr_batch.data.encoding import encode
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.finetune import TrainingSettings, train_classifier
from attattr_batch.engine.models import find_model, load_tokenizer
from attattr_batch.errors import UserError
from attattr_batch.records import EncodedExample
from attattr_batch.spec import make_spec


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
    quiet: bool = False


def finetune_task(settings: FinetuneSettings) -> float:
    """Trains on the train split, writes the checkpoint to `output`, and returns dev accuracy.

    Raises:
        UserError: task, base model, data or output folder cannot be used.
    """
    if settings.output.exists() and any(settings.output.iterdir()):
        raise UserError("the output folder is not empty", got=settings.output, hint="give a new folder")
    common = {"task": settings.task, "model": settings.base, "data_dir": settings.data_dir}
    train = load_dataset_for(make_spec({**common, "split": "train", "limit": settings.limit}))
    dev = load_dataset_for(make_spec({**common, "split": "dev"}))
    if not train.labelled:
        raise UserError("the training split has rows without labels", got=train.source)
    source = find_model(settings.base)
    tokenizer = load_tokenizer(source)

    def encoded(rows: object) -> list[EncodedExample]:
        return encode(rows, tokenizer, settings.max_length)  # type: ignore[arg-type]

    training = TrainingSettings(
        labels=train.labels,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        quiet=settings.quiet,
    )
    return train_classifier(source, tokenizer, (encoded(train), encoded(dev)), training, settings.output)
