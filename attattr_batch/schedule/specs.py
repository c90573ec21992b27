"""Run specs that change from tick to tick: dates are filled in, and the newest checkpoint is taken.

`{tick:%Y-%m-%d}` anywhere in the file stands for the tick in the schedule's time zone, in strftime's codes.
A `*` in `model` watches a folder: the newest match that holds a complete checkpoint is attributed.

The runs of a tick are resolved before the first of them starts, and kept with the tick, so that an
interrupted tick goes on with the same runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attattr_batch.schedule.checkpoints import newest_checkpoint
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.state import Resolved
from attattr_batch.schedule.timing import check_cron
from attattr_batch.spec import RunSpec, make_settings, make_spec
from attattr_batch.spec_file import load_spec

_TICK = re.compile(r"\{tick:([^{}]+)\}")


def make_schedule(values: Mapping[str, Any]) -> Schedule:
    """Checks the settings of a schedule, and its run spec.

    Raises:
        UserError: names what cannot be used.
    """
    schedule = make_settings(Schedule, values)
    check_cron(schedule.cron)
    scheduled_specs(schedule)
    return schedule


def scheduled_specs(schedule: Schedule, tick: datetime | None = None) -> list[RunSpec]:
    """Reads the spec of a schedule for a tick, by default its first.

    The run is named after the tick. Where the file holds several runs, each has its own name or number behind
    that.

    Raises:
        UserError: the file cannot be used.
    """
    tick = tick or schedule.next_tick(schedule.created_at)
    local, name = tick.astimezone(schedule.zone), schedule.run_name(tick)
    specs = load_spec(
        schedule.spec, prepare=lambda text: _TICK.sub(lambda found: local.strftime(found[1]), text)
    )
    if len(specs) == 1:
        return [_named(specs[0], name)]
    return [_named(spec, f"{name}-{spec.name or n}") for n, spec in enumerate(specs)]


def resolve(schedule: Schedule, tick: datetime) -> Resolved:
    """The runs of a tick, as `scheduled_specs` gives them, with watched models found.

    Raises:
        UserError: the file cannot be used, or a watched folder holds no complete checkpoint.
    """
    specs = scheduled_specs(schedule, tick)
    return [
        spec.flat() | ({"model": str(newest_checkpoint(spec.model))} if "*" in spec.model else {})
        for spec in specs
    ]


def _named(spec: RunSpec, name: str) -> RunSpec:
    return make_spec(spec.flat() | {"name": name}, where="the schedule")
