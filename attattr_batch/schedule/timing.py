"""When a schedule fires: cron expressions in a time zone, read as Debian's cron reads them.

A tick is the moment that the expression names, in UTC. It is the identity of the run that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
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
        UserError: it does not have five fields, a field is wrong, or no date ever matches.
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
    the gap ends, and one that comes twice in autumn fires the first time. Jobs with a `*` in minute or hour
    follow the clock.
    """
    previous = after
    for moment in CronSim(expression, after.astimezone(zone)):
        tick = moment.astimezone(UTC)
        # In the hour that autumn repeats, the local time alone does not tell the first pass from the second.
        if tick > previous:
            previous = tick
            yield tick


def stamp(tick: datetime) -> str:
    """A tick as run names hold it: `20261122T010000Z`."""
    return tick.astimezone(UTC).strftime(_STAMP)


def parse_stamp(text: str) -> datetime:
    """The tick that `stamp` wrote."""
    return datetime.strptime(text, _STAMP).replace(tzinfo=UTC)
