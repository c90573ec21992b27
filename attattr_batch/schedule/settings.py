"""The settings of a schedule: when it fires, what it runs, and which changes of the results are drift."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attattr_batch.errors import UserError
from attattr_batch.schedule.specs import scheduled_specs
from attattr_batch.schedule.timing import check_cron, find_zone, stamp, ticks_after
from attattr_batch.spec import RunSpec

ALL_JOBS = "all"

_NAME = r"^[a-z0-9]([-a-z0-9]{0,58}[a-z0-9])?$"


class Schedule(BaseModel):
    """One schedule.

    Attributes:
        name: Part of the names of its runs, lock file and manifests.
        cron: Cron expression with five fields.
        spec: Run spec; it may change from tick to tick (see `schedule.specs`).
        db: The store.
        created_at: When it was added; earlier ticks are not its own.
        tz: IANA time zone of the cron expression.
        min_rank_correlation: Smallest rank correlation of head importance with the tick before that is no
            drift.
        max_accuracy_drop: Largest loss of accuracy since the tick before that is no drift.
        jobs: Jobs that are built for the runs of a tick; `all` stands for every job.
        report: Where the report is written after every tick; None for nowhere.
        notify_command: Shell command that gets a JSON message on stdin when a tick needs attention.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=_NAME)]
    cron: str
    spec: Path
    db: Path
    created_at: datetime
    tz: str = "UTC"
    min_rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.9
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    jobs: tuple[str, ...] = ()
    report: Path | None = None
    notify_command: str | None = None

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return find_zone(self.tz)

    def next_tick(self, after: datetime) -> datetime:
        """The first tick later than `after`, in UTC."""
        return next(ticks_after(self.cron, self.zone, after))

    def run_name(self, tick: datetime) -> str:
        """The name of a tick's run: `nightly-20261122T010000Z`."""
        return f"{self.name}-{stamp(tick)}"

    def first_specs(self) -> list[RunSpec]:
        """The runs of its first tick.

        Raises:
            UserError: the spec cannot be used.
        """
        tick = self.next_tick(self.created_at)
        return scheduled_specs(self.spec, tick.astimezone(self.zone), self.run_name(tick))


def make_schedule(values: Mapping[str, Any]) -> Schedule:
    """Checks the settings of a schedule, and its run spec.

    Raises:
        UserError: names what cannot be used.
    """
    try:
        schedule = Schedule.model_validate(dict(values))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError(
            "the schedule is not usable",
            got="; ".join(problems),
            hint="names: lower-case letters, digits and hyphens, at most 60",
        ) from error
    check_cron(schedule.cron)
    schedule.first_specs()
    return schedule
