"""When a schedule fires: cron syntax in a time zone, as Debian's cron reads it.

A tick is the moment the cron expression names, in UTC. It is the identity of the run it starts; jitter only
shifts when that run begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from attattr_batch.errors import UserError, did_you_mean

_STAMP = "%Y%m%dT%H%M%SZ"


def find_zone(name: str) -> tzinfo:
    """The IANA time zone of this name.

    Raises:
        UserError: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            "unknown time zone",
            got=name,
            allowed="an IANA name such as Europe/Berlin, or UTC",
            hint=did_you_mean(name, available_timezones()),
        ) from error


def check_cron(expression: str) -> None:
    """Checks a cron expression.

    Raises:
        UserError: it has not five fields, a field is bad, or no date ever matches.
    """
    allowed = "minute hour day-of-month month day-of-week, such as '0 2 * * *' (daily at two)"
    if len(expression.split()) != 5:
        raise UserError("a cron expression has five fields", got=repr(expression), allowed=allowed)
    try:
        next(CronSim(expression, datetime.now(UTC)))
    except CronSimError as error:
        got = f"{expression!r}: {str(error).lower()}"
        raise UserError("the cron expression is not valid", got=got, allowed=allowed) from error
    except StopIteration as error:
        raise UserError("the cron expression never fires", got=repr(expression)) from error


def ticks_after(expression: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Every tick later than `after`, in UTC, in order.

    Jobs at a fixed time run once a day whatever the clocks do: a time that is skipped in spring fires when
    the gap ends, one that comes twice in autumn fires the first time. Jobs with a `*` in minute or hour
    follow the clock, as in Debian's cron.
    """
    previous = after
    for moment in CronSim(expression, after.astimezone(zone)):
        tick = moment.astimezone(UTC)
        # Inside the repeated hour of autumn the local time alone cannot tell the two passes apart.
        if tick > previous:
            previous = tick
            yield tick


def kubernetes_cron(expression: str) -> str:
    """The expression as Kubernetes must be given it: its weekdays are 0 to 6, Sunday 0.

    Raises:
        UserError: Kubernetes does not know it (L, LW, #), or would read it otherwise.
    """
    minute, hour, day, month, weekday = expression.split()
    cron = CronSim(expression, datetime.now(UTC))
    numbers = {one for one in cron.weekdays if isinstance(one, int)}
    if min(cron.days) < 0 or len(numbers) < len(cron.weekdays):
        raise UserError(
            "Kubernetes does not know the cron expression",
            got=repr(expression),
            allowed="numbers, names, *, lists, ranges and steps; not L, LW and #",
            hint="add the schedule with other days, or let cron or systemd call it",
        )
    if cron.day_and and "*" not in (day, weekday):
        raise UserError(
            "Kubernetes would start this on more days: of day-of-month and weekday, either is enough there",
            got=repr(expression),
            allowed="`*` for one of the two, or both without a star",
            hint="add the schedule with other days, or let cron or systemd call it",
        )
    # A 7 need not stand there: 1/2 is 1, 3, 5, 7.
    if 7 in numbers and not weekday.startswith("*"):
        weekday = ",".join(str(one) for one in sorted({one % 7 for one in numbers}))
    return " ".join((minute, hour, day, month, weekday))


def jitter(name: str, most_s: int) -> timedelta:
    """A delay from 0 to below `most_s` seconds that is always the same for a name, so that many spread."""
    if most_s == 0:
        return timedelta(0)
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return timedelta(seconds=number % most_s)


def stamp(tick: datetime) -> str:
    """A tick as it stands in run names: `20261122T010000Z`."""
    return tick.astimezone(UTC).strftime(_STAMP)


def parse_stamp(text: str) -> datetime:
    """The tick that `stamp` wrote."""
    return datetime.strptime(text, _STAMP).replace(tzinfo=UTC)
