"""Self-attention attribution over whole datasets, kept in a database you can query."""

from __future__ import annotations

import importlib
import os

# Idle OpenMP threads sleep instead of spinning. With one other busy process on two cores, spinning made the
# same chunk take 10.5 s instead of 0.7 s. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# huggingface_hub reads this when it is imported; asking for a model then sends no usage data.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from typing import TYPE_CHECKING

from attattr_batch.errors import AttattrError as AttattrError
from attattr_batch.errors import StoreError as StoreError
from attattr_batch.errors import TerminalError as TerminalError
from attattr_batch.errors import UserError as UserError

if TYPE_CHECKING:
    from attattr_batch.api import Attribution as Attribution
    from attattr_batch.api import Edge as Edge
    from attattr_batch.api import attribute as attribute
    from attattr_batch.results import Results as Results
    from attattr_batch.results import open as open

_LAZY = {"attribute": "api", "Attribution": "api", "Edge": "api", "Results": "results", "open": "results"}


def __getattr__(name: str) -> object:
    # Importing torch takes seconds, which a command such as `attattr status` must not take.
    if name in _LAZY:
        return getattr(importlib.import_module(f"attattr_batch.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
