"""The options that say where passes are computed, alike in every command that computes any."""

from __future__ import annotations

from typing import Annotated

import typer

from attattr_batch.cli.settings import setting
from attattr_batch.spec import Device, ExecutorName

_PANEL = "Where"

DeviceOption = Annotated[Device | None, setting("device", _PANEL)]
ExecutorOption = Annotated[ExecutorName | None, setting("executor", _PANEL)]
WorkersOption = Annotated[int | None, setting("workers", _PANEL)]
AddressOption = Annotated[str | None, setting("address", _PANEL)]
BatchTokensOption = Annotated[int | None, setting("batch_tokens", _PANEL)]
ChunkDeadlineOption = Annotated[float | None, setting("chunk_deadline", _PANEL)]
StageOption = Annotated[str | None, setting("stage", _PANEL)]
RetryErrorsOption = Annotated[bool, typer.Option("--retry-errors", help="Try quarantined examples again.")]
