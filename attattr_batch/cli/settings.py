"""The options of `attattr run` that say what to attribute, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attattr_batch.choices import DType, Target
from attattr_batch.spec import Quadrature

_DATA = "What to attribute"
_METHOD = "How"

SpecArgument = Annotated[Path | None, typer.Argument(help="Run spec (YAML). Flags win over it.")]
TaskOption = Annotated[str | None, typer.Option(help="GLUE task, e.g. sst2.", rich_help_panel=_DATA)]
ModelOption = Annotated[
    str | None, typer.Option(help="Model folder, hub id, or `bundled`.", rich_help_panel=_DATA)
]
RevisionOption = Annotated[str | None, typer.Option(help="Revision of a hub model.", rich_help_panel=_DATA)]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        help="Folder in the official GLUE TSV layout, or `bundled`. Without it: the hub.",
        rich_help_panel=_DATA,
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        help="Your own data: a CSV, JSON or Parquet file, or a hub set; name its columns in a spec.",
        rich_help_panel=_DATA,
    ),
]
SplitOption = Annotated[str | None, typer.Option(help="Split. [default: dev]", rich_help_panel=_DATA)]
LimitOption = Annotated[int | None, typer.Option(help="First N rows only.", rich_help_panel=_DATA)]
MaxLengthOption = Annotated[
    int | None, typer.Option(help="Tokens per example at most. [default: 128]", rich_help_panel=_DATA)
]
NameOption = Annotated[str | None, typer.Option(help="Name of the run.", rich_help_panel=_DATA)]
TargetOption = Annotated[
    Target | None, typer.Option(help="Class attributed. [default: both]", rich_help_panel=_METHOD)
]
QuadratureOption = Annotated[
    Quadrature | None, typer.Option(help="Integration rule. [default: adaptive]", rich_help_panel=_METHOD)
]
NodesOption = Annotated[int | None, typer.Option(help="Nodes of a fixed rule.", rich_help_panel=_METHOD)]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        help="Largest completeness error of any row and layer. [default: 0.001]", rich_help_panel=_METHOD
    ),
]
DTypeOption = Annotated[
    DType | None, typer.Option(help="Arithmetic. [default: float32]", rich_help_panel=_METHOD)
]
TopKOption = Annotated[
    int | None, typer.Option(help="Edges kept per head. [default: 5]", rich_help_panel=_METHOD)
]
