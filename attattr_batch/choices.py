"""The closed lists of words that users choose from; the command line offers what the rest accepts."""

from __future__ import annotations

from typing import Literal

Quadrature = Literal["adaptive", "left-riemann", "right-riemann", "gauss-legendre"]
"""Integration rules: the adaptive one, the paper's, the released code's, and Gauss's."""

Device = Literal["auto", "cpu", "cuda"]
"""Devices that a spec may ask for."""

ExecutorName = Literal["auto", "local", "ray"]
"""Where a pass may be computed: in this process, or on Ray."""

DType = Literal["float32", "bfloat16", "float16", "tf32", "auto"]
"""Arithmetic of the replays along the path of integration."""

Target = Literal["gold", "predicted", "both"]
"""Classes that a run attributes."""

RowTarget = Literal["gold", "predicted"]
"""The class that a row is about."""

Variant = Literal["released", "greedy"]
"""How an attribution tree grows: as in the authors' code, or by the same sweep started in the last layer."""

Units = Literal["pieces", "words"]
"""The nodes of an attribution tree: tokens, or whole words."""

ExportFormat = Literal["parquet", "datasets"]
"""How the tables of a run are exported."""

RowFormat = Literal["table", "csv", "json"]
"""How a command prints rows on stdout."""

LogFormat = Literal["text", "json"]
"""How a command writes its log on stderr; `json` is one object a line."""

Theme = Literal["light", "dark"]
"""The page that a figure is for."""
