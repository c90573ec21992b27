"""Run specs that change from tick to tick: dates filled in, and the newest checkpoint of a folder taken.

`{tick:%Y-%m-%d}` anywhere in the file stands for the tick in the schedule's time zone, in strftime's codes.
A `*` in `model` watches a folder: the newest match that holds a complete checkpoint is attributed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from attattr_batch.errors import UserError
from attattr_batch.spec import RunSpec, load_spec, make_spec

_TICK = re.compile(r"\{tick:([^{}]+)\}")
_WATCH = "*"


@dataclass(frozen=True)
class Resolved:
    """The runs of one tick, fixed before its first one starts, so that a resumed tick continues the same.

    Attributes:
        specs: The runs, with dates filled in and models found.
        watched: By watched model folder, the size and time of its weights.
    """

    specs: tuple[RunSpec, ...]
    watched: dict[str, list[int]]

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"specs": [spec.model_dump(mode="json") for spec in self.specs], "watched": self.watched}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Resolved:
        """What `document` gave."""
        specs = tuple(make_spec(values, where="the schedule's state") for values in document["specs"])
        return cls(specs, document["watched"])

    def same_work(self, other: Resolved) -> bool:
        """Whether every model is watched and neither it nor anything else but names changed since `other`."""
        if not self.watched or {spec.model for spec in self.specs} - set(self.watched):
            return False
        ours, theirs = (
            [spec.model_copy(update={"name": None}) for spec in one.specs] for one in (self, other)
        )
        return ours == theirs and self.watched == other.watched


def scheduled_specs(path: Path, tick: datetime, name: str) -> list[RunSpec]:
    """Reads a spec file for a tick.

    Args:
        path: The file.
        tick: The tick, in the time zone in which dates are meant.
        name: Name of the tick and its run; the runs of a spec that holds several get their own name, or
            number, behind it.

    Raises:
        UserError: the file cannot be used.
    """
    specs = load_spec(path, prepare=lambda text: _TICK.sub(lambda found: tick.strftime(found[1]), text))
    if len(specs) == 1:
        return [_changed(specs[0], path, name=name)]
    return [_changed(spec, path, name=f"{name}-{spec.name or n}") for n, spec in enumerate(specs)]


def resolve(path: Path, tick: datetime, name: str) -> Resolved:
    """The runs of a tick, as `scheduled_specs` gives them, with watched models found.

    Raises:
        UserError: the file cannot be used, or a watched folder holds no checkpoint.
    """
    watched: dict[str, list[int]] = {}
    settled = []
    for spec in scheduled_specs(path, tick, name):
        if _WATCH in spec.model:
            folder = _newest_checkpoint(spec.model)
            watched[str(folder)] = _weights_state(folder)
            spec = _changed(spec, path, model=str(folder))
        settled.append(spec)
    return Resolved(tuple(settled), watched)


def _changed(spec: RunSpec, path: Path, **changes: str) -> RunSpec:
    return make_spec(spec.model_dump() | changes, where=str(path))


def _newest_checkpoint(pattern: str) -> Path:
    """The match whose weights were written last; one without configuration or weights is still being made."""
    where = Path(pattern).expanduser()
    anchor = Path(where.anchor)
    found = [path for path in anchor.glob(str(where.relative_to(anchor))) if (path / "config.json").is_file()]
    complete = [path for path in found if _weights(path)]
    if not complete:
        raise UserError(
            "no checkpoint in the watched folder yet",
            got=pattern,
            allowed="a folder with config.json and *.safetensors",
        )
    return max(complete, key=lambda path: (max(one.stat().st_mtime_ns for one in _weights(path)), path))


def _weights_state(folder: Path) -> list[int]:
    return [number for one in _weights(folder) for number in (one.stat().st_size, one.stat().st_mtime_ns)]


def _weights(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("*.safetensors"))
