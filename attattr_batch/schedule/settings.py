"""What a schedule is: when, what, and which changes in its results call for attention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attattr_batch.choices import Missed, Overlap
from attattr_batch.errors import UserError
from attattr_batch.schedule.template import scheduled_specs
from attattr_batch.schedule.timing import check_cron, find_zone, jitter, stamp, ticks_after
from attattr_batch.spec import RunSpec

ALL_JOBS = "all"

_NAME = r"^[a-z0-9]([-a-z0-9]{0,58}[a-z0-9])?$"
_PLAIN = re.compile(r"[!-~]+")


class Schedule(BaseModel):
    """One schedule.

    Attributes:
        name: Names its runs, lock file and manifests.
        cron: Five-field cron expression.
        spec: Run spec; may be templated (see `template`).
        db: The store.
        created_at: Ticks before are not its own.
        tz: IANA time zone of the cron expression.
        missed: Which ticks run that nobody was there to run: the last one, all, or none.
        overlap: What becomes of a tick that falls due while an earlier one runs.
        jitter_s: Delay, in seconds, below which a fixed one is drawn from the name.
        min_rank_correlation: Least rank correlation of head importance with the run before.
        max_accuracy_drop: Largest loss of accuracy from the run before.
        jobs: Jobs built for the runs of a tick; `all` stands for every job.
        report: Where the report is written after every run; None for none.
        notify_url: Told, by an HTTP POST of JSON, when a run needs attention.
        notify_command: The same, as a shell command that gets the JSON on stdin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=_NAME)]
    cron: str
    spec: Path
    db: Path
    created_at: datetime
    tz: str = "UTC"
    missed: Missed = "last"
    overlap: Overlap = "skip"
    jitter_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    min_rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.9
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    jobs: tuple[str, ...] = ()
    report: Path | None = None
    notify_url: str | None = None
    notify_command: str | None = None

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return find_zone(self.tz)

    @property
    def job_names(self) -> tuple[str, ...] | None:
        """Jobs to build, empty for every job; None where none is asked for."""
        return None if not self.jobs else () if ALL_JOBS in self.jobs else self.jobs

    @property
    def delay(self) -> timedelta:
        """How long after a tick its run begins."""
        return jitter(self.name, self.jitter_s)

    def next_ticks(self, after: datetime, count: int) -> list[datetime]:
        """The next ticks after a moment, in UTC."""
        ticks = ticks_after(self.cron, self.zone, after)
        return [tick for _, tick in zip(range(count), ticks, strict=False)]

    def first_specs(self) -> list[RunSpec]:
        """The runs of its first tick.

        Raises:
            UserError: the spec cannot be used.
        """
        (tick,) = self.next_ticks(self.created_at, 1)
        return scheduled_specs(self.spec, tick.astimezone(self.zone), f"{self.name}-{stamp(tick)}")


def make_schedule(values: Mapping[str, Any]) -> Schedule:
    """Checks a schedule, its run spec included.

    Raises:
        UserError: says what cannot be used; nothing was stored.
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
    if schedule.notify_url is not None:
        _check_webhook(schedule.notify_url)
    return schedule


def _check_webhook(url: str) -> None:
    why = None
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        if parts.scheme not in ("http", "https"):
            why = f"scheme {parts.scheme!r}"
        elif not host:
            why = "no host"
        elif parts.username is not None:
            why = "user names are not sent"
        elif not _PLAIN.fullmatch(url):
            why = "spaces, control characters or others than ASCII"
        elif parts.port == 0:  # reading one that is no port raises
            why = "port 0"
    except ValueError as error:
        why = str(error)
    if why is not None:
        raise UserError(
            "the webhook is no web address",
            got=f"{url!r}: {why}",
            allowed="http:// or https://, host, port and path in ASCII",
            hint="write a space as %20, other characters as their bytes in UTF-8 (%C3%A4)",
        )
