"""`attattr finetune`: a checkpoint to attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.cli.logs import say, set_up_logging
from attattr_batch.cli.output import QuietOption


def finetune(
    task: Annotated[str, typer.Option(help="GLUE task.")],
    base: Annotated[str, typer.Option(help="Encoder to start from: folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the checkpoint.")],
    data_dir: Annotated[
        str | None, typer.Option(help="Folder in the official GLUE TSV layout. Default: the hub.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Times that all training rows are seen.", min=0.01)] = 3.0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0)] = 2e-5,
    batch_size: Annotated[int, typer.Option(help="Rows in a step.", min=1)] = 32,
    max_length: Annotated[int, typer.Option(help="Tokens per example at most.", min=4)] = 128,
    limit: Annotated[int | None, typer.Option(help="First N training rows only.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the new weights and of the order of rows.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune an encoder on a GLUE task as in the BERT paper; the result loads straight into `run`.

    Example:
        attattr finetune --task rte --base google-bert/bert-base-uncased -o my-rte
    """
    from attattr_batch.engine.training import FinetuneSettings, finetune_task

    set_up_logging(quiet=quiet)
    settings = FinetuneSettings(
        task=task,
        base=base,
        data_dir=data_dir,
        output=output,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        limit=limit,
        seed=seed,
    )
    accuracy = finetune_task(settings)
    if not quiet:
        source = f" --data-dir {data_dir}" if data_dir else ""
        say(f"wrote {output}; dev accuracy {accuracy:.4f}")
        say(f"next: attattr run --task {task} --model {output}{source}")
