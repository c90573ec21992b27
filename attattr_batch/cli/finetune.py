"""`attattr finetune`: trains a checkpoint to attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attattr_batch.cli.logs import say, set_up_logging
from attattr_batch.cli.options import settings_as_options
from attattr_batch.cli.output import QuietOption
from attattr_batch.spec import FinetuneSettings, make_settings

_REQUIRED = ("task", "base", "output")


@settings_as_options(
    {key: field for key, field in FinetuneSettings.model_fields.items() if key not in _REQUIRED}
)
def finetune(
    task: Annotated[str, typer.Option(help="GLUE task.")],
    base: Annotated[str, typer.Option(help="Encoder to start from: folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the checkpoint.")],
    *,
    settings: dict[str, Any],
    quiet: QuietOption = False,
) -> None:
    """Fine-tune an encoder on a GLUE task as in the BERT paper; the result loads straight into `run`.

    Example:
        attattr finetune --task rte --base google-bert/bert-base-uncased -o my-rte
    """
    set_up_logging(quiet=quiet)
    chosen = make_settings(FinetuneSettings, {"task": task, "base": base, "output": output, **settings})
    from attattr_batch.engine.training import finetune_task

    accuracy = finetune_task(chosen)
    if not quiet:
        source = f" --data-dir {chosen.data_dir}" if chosen.data_dir else ""
        say(f"wrote {output}; dev accuracy {accuracy:.4f}")
        say(f"next: attattr run --task {task} --model {output}{source}")
