"""The settings of a schedule: when it fires, what it runs, and which changes of the results are drift."""

from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from attattr_batch.schedule.timing import find_zone, stamp, ticks_after
from attattr_batch.spec import SpecModel

ALL_JOBS = "all"

_NAME = r"^[a-z0-9]([-a-z0-9]{0,58}[a-z0-9])?$"

# A tick may be run from another folder than the schedule was added in.
_AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class Schedule(SpecModel):
    """One schedule."""

    command: ClassVar[str] = "schedule add"

    name: Annotated[str, Field(pattern=_NAME)]
    """Part of the names of its runs, lock file and manifests: lower-case letters, digits and hyphens, at most
    60."""
    cron: str
    """Five fields: minute hour day month weekday."""
    spec: _AbsolutePath
    """Run spec (YAML); may hold {tick:%Y-%m-%d}."""
    db: _AbsolutePath
    """The store."""
    created_at: datetime
    """When it was added; earlier ticks are not its own."""
    tz: str = "UTC"
    """IANA time zone of the cron expression."""
    min_rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.9
    """A lower rank correlation of head importance with the tick before is drift."""
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """A larger loss of accuracy since the tick before is drift."""
    jobs: tuple[str, ...] = ()
    """Jobs that are built for the runs of a tick; `all` stands for every job."""
    report: _AbsolutePath | None = None
    """Write the HTML report here after each tick."""
    notify_command: str | None = None
    """Shell command that gets JSON on stdin when a tick needs attention."""

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
