"""Run specs that change from tick to tick: dates are filled in, and the newest checkpoint is taken.

`{tick:%Y-%m-%d}` anywhere in the file stands for the tick in the schedule's time zone, in strftime's codes.
A `*` in `model` watches a folder: the newest match that holds a complete checkpoint is attributed.

The runs of a tick are resolved before the first of them starts, and kept with the tick, so that an
interrupted tick goes on with the same runs. They are kept as plain JSON values:

    {"specs": [{"task": "sst2", "model": "/runs/b", ...}], "watched": {"/runs/b": [4711, 1764230400000000]}}

`watched` holds sizes (bytes) and times of writing (nanoseconds) of the files of each watched model, and of
each data file of its runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from attattr_batch.data.sources import local_files
from attattr_batch.engine.model_source import model_files
from attattr_batch.schedule.checkpoints import newest_checkpoint
from attattr_batch.spec import RunSpec, make_spec
from attattr_batch.spec_file import load_spec

Resolved = dict[str, Any]

_TICK = re.compile(r"\{tick:([^{}]+)\}")


def scheduled_specs(path: Path, tick: datetime, name: str) -> list[RunSpec]:
    """Reads a spec file for a tick.

    Args:
        path: The file.
        tick: The tick, in the time zone in which dates are meant.
        name: Name of the tick's run. Where the file holds several runs, each has its own name or number
            behind it.

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
    specs = []
    for spec in scheduled_specs(path, tick, name):
        if "*" in spec.model:
            folder = newest_checkpoint(spec.model)
            watched[str(folder)] = _written(model_files(folder))
            watched |= {str(file): _written([file]) for file in local_files(spec.data)}
            spec = _changed(spec, path, model=str(folder))
        specs.append(spec.flat())
    return {"specs": specs, "watched": watched}


def resolved_specs(resolved: Resolved) -> list[RunSpec]:
    """The runs that `resolve` gave.

    Raises:
        UserError: another release resolved them, whose settings are not those of this one.
    """
    return [make_spec(values, where="the schedules file") for values in resolved["specs"]]


def same_work(resolved: Resolved, earlier: Resolved) -> bool:
    """Whether every model is watched, and nothing but names changed: no setting, no file of model or data."""
    if any(spec["model"] not in resolved["watched"] for spec in resolved["specs"]):
        return False
    now, before = ([spec | {"name": None} for spec in one["specs"]] for one in (resolved, earlier))
    return now == before and resolved["watched"] == earlier["watched"]


def _changed(spec: RunSpec, path: Path, **changes: str) -> RunSpec:
    return make_spec(spec.flat() | changes, where=str(path))


def _written(files: Iterable[Path]) -> list[int]:
    return [number for one in files for number in (one.stat().st_size, one.stat().st_mtime_ns)]
