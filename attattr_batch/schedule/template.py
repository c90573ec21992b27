"""Run specs that change from tick to tick: dates filled in, and the newest checkpoint of a folder taken.

`{tick:%Y-%m-%d}` anywhere in the file stands for the tick in the schedule's time zone, in strftime's codes.
A `*` in `model` watches a folder: the newest match that holds a complete checkpoint is attributed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from attattr_batch.data.sources import local_files
from attattr_batch.engine.model_source import model_files
from attattr_batch.schedule.checkpoints import newest_checkpoint
from attattr_batch.spec import RunSpec, make_spec
from attattr_batch.spec_file import load_spec

_TICK = re.compile(r"\{tick:([^{}]+)\}")
_WATCH = "*"


@dataclass(frozen=True)
class Resolved:
    """The runs of one tick, fixed before its first one starts, so that a resumed tick continues the same.

    Attributes:
        specs: The runs, with dates filled in and models found.
        watched: By watched model folder, and by data file of the runs whose models these are, sizes in bytes
            and times of writing in nanoseconds.
    """

    specs: tuple[RunSpec, ...]
    watched: dict[str, list[int]]

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"specs": [spec.flat() for spec in self.specs], "watched": self.watched}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Resolved:
        """What `document` gave."""
        specs = tuple(make_spec(values, where="the schedule's state") for values in document["specs"])
        return cls(specs, document["watched"])

    def same_work(self, other: Resolved) -> bool:
        """Whether every model is watched, and no file of model or data nor anything but names changed."""
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
        UserError: the file cannot be used, a watched folder holds no complete checkpoint, or there is no such
            task or split.
    """
    watched: dict[str, list[int]] = {}
    settled = []
    for spec in scheduled_specs(path, tick, name):
        if _WATCH in spec.model:
            folder = newest_checkpoint(spec.model)
            watched[str(folder)] = _state(model_files(folder))
            watched |= {str(file): _state([file]) for file in local_files(spec.data)}
            spec = _changed(spec, path, model=str(folder))
        settled.append(spec)
    return Resolved(tuple(settled), watched)


def _changed(spec: RunSpec, path: Path, **changes: str) -> RunSpec:
    return make_spec(spec.flat() | changes, where=str(path))


def _state(files: Iterable[Path]) -> list[int]:
    return [number for one in files for number in (one.stat().st_size, one.stat().st_mtime_ns)]
