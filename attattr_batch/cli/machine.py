"""The options that say where passes are computed, alike in every command that computes any."""

from __future__ import annotations

from typing import Annotated

import typer

from attattr_batch.spec import Device, ExecutorName

_PANEL = "Where"

DeviceOption = Annotated[Device | None, typer.Option(help="[default: auto]", rich_help_panel=_PANEL)]
ExecutorOption = Annotated[
    ExecutorName | None,
    typer.Option(help="In this process, or on Ray. [default: auto]", rich_help_panel=_PANEL),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Ray workers. [default: what fits here, or at --address]", rich_help_panel=_PANEL),
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a running Ray cluster.", rich_help_panel=_PANEL)
]
BatchTokensOption = Annotated[
    int | None, typer.Option(help="Tokens computed at once.", rich_help_panel=_PANEL)
]
ChunkDeadlineOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds until a Ray worker that does not answer is replaced. [default: 3600]",
        rich_help_panel=_PANEL,
    ),
]
StageOption = Annotated[
    str | None,
    typer.Option(
        help="Ray workers write results here (a shared folder or s3://...) instead of returning them.",
        rich_help_panel=_PANEL,
    ),
]
RetryErrorsOption = Annotated[bool, typer.Option("--retry-errors", help="Try quarantined examples again.")]
