"""Closed lists of words that several layers share: the command line offers what the rest accepts."""

from __future__ import annotations

from typing import Literal

DType = Literal["float32", "bfloat16"]
"""Arithmetic along the path of integration."""

Target = Literal["gold", "predicted", "both"]
"""Classes that a run attributes."""

RowTarget = Literal["gold", "predicted"]
"""Class that a row is about."""

Variant = Literal["released", "greedy"]
"""How an attribution tree grows: as in the authors' code, or by the same sweep begun in the last layer."""

Form = Literal["parquet", "datasets"]
"""How a run is exported."""

Theme = Literal["light", "dark"]
"""What page a picture is for."""
