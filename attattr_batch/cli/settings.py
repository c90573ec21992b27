"""The options of `attattr run` that say what to attribute, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attattr_batch.choices import DType, Target
from attattr_batch.spec import Quadrature, RunSpec


def meaning(key: str) -> str:
    """What a key of a run spec means, in one line."""
    return " ".join((RunSpec.model_fields[key].description or "").split())


def setting(key: str, panel: str) -> Any:
    """The option for a key of a run spec, with its default."""
    field = RunSpec.model_fields[key]
    default = f"{field.default:g}" if isinstance(field.default, float) else field.default
    shown = "" if field.is_required() or default is None else f" [default: {default}]"
    return typer.Option(help=meaning(key) + shown, rich_help_panel=panel)


_DATA = "What to attribute"
_METHOD = "How"

SpecArgument = Annotated[Path | None, typer.Argument(help="Run spec (YAML). Flags win over it.")]
TaskOption = Annotated[str | None, setting("task", _DATA)]
ModelOption = Annotated[str | None, setting("model", _DATA)]
RevisionOption = Annotated[str | None, setting("revision", _DATA)]
DataDirOption = Annotated[str | None, setting("data_dir", _DATA)]
DatasetOption = Annotated[str | None, setting("dataset", _DATA)]
SplitOption = Annotated[str | None, setting("split", _DATA)]
LimitOption = Annotated[int | None, setting("limit", _DATA)]
MaxLengthOption = Annotated[int | None, setting("max_length", _DATA)]
NameOption = Annotated[str | None, setting("name", _DATA)]
TargetOption = Annotated[Target | None, setting("target", _METHOD)]
QuadratureOption = Annotated[Quadrature | None, setting("quadrature", _METHOD)]
NodesOption = Annotated[int | None, setting("nodes", _METHOD)]
ToleranceOption = Annotated[float | None, setting("tolerance", _METHOD)]
DTypeOption = Annotated[DType | None, setting("dtype", _METHOD)]
TopKOption = Annotated[int | None, setting("top_k", _METHOD)]
