"""Fire times against a list derived hour by hour from what local clocks show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest

from attattr_batch.errors import UserError
from attattr_batch.schedule.timing import check_cron, find_zone, parse_stamp, stamp, ticks_after

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Case:
    """A cron expression and, written anew, when it fires.

    Attributes:
        cron: The expression.
        minutes: Its minutes.
        hours: Its hours.
        day: Whether it fires on a local date.
        fixed: Whether it names fixed times, so that it fires once a day also when clocks change.
    """

    cron: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day: Callable[[datetime], bool]
    fixed: bool = True


ANY_HOUR = tuple(range(24))
CASES = [
    Case("0 2 * * *", (0,), (2,), lambda day: True),
    Case("30 1,2,3 * * *", (30,), (1, 2, 3), lambda day: True),
    Case("15 2 * * 1-5", (15,), (2,), lambda day: day.isoweekday() <= 5),
    # Both days restricted: either suffices.
    Case("45 2 13 * 5", (45,), (2,), lambda day: day.day == 13 or day.isoweekday() == 5),
    # One starts with a star: both must hold.
    Case("5 6 */2 * 7", (5,), (6,), lambda day: day.day % 2 == 1 and day.isoweekday() == 7),
    Case("0 2 29 2 *", (0,), (2,), lambda day: (day.month, day.day) == (2, 29)),
    Case("0 0 31 * *", (0,), (0,), lambda day: day.day == 31),
    Case("20,50 * * * *", (20, 50), ANY_HOUR, lambda day: True, fixed=False),
    Case("*/30 2 * * *", (0, 30), (2,), lambda day: True, fixed=False),
]


def expected(case: Case, zone: ZoneInfo) -> list[datetime]:
    """What the local clock says, hour by hour; both zones change by whole hours."""
    ticks = set()
    moment = START - 2 * HOUR
    while moment < END:
        local = moment.astimezone(zone)
        if local.hour in case.hours and case.day(local) and not (case.fixed and local.fold):
            ticks |= {moment + timedelta(minutes=minute) for minute in case.minutes}
        jumped = (moment.astimezone(zone).utcoffset() or HOUR) - (
            (moment - HOUR).astimezone(zone).utcoffset() or HOUR
        )
        if case.fixed and jumped == HOUR and local.hour - 1 in case.hours and case.day(local):
            ticks.add(moment)  # the hour before this one does not exist today
        moment += HOUR
    return sorted(tick for tick in ticks if START < tick < END)


def clock_changes(tick: datetime, zone: tzinfo) -> bool:
    """Whether the local clock is changed within a day of the tick."""
    before, after = (tick + sign * timedelta(days=1) for sign in (-1, 1))
    return before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cron)
def test_two_years_told_at_once_and_asked_tick_by_tick(case: Case, zone: str) -> None:
    every, place = expected(case, ZoneInfo(zone)), find_zone(zone)
    at_once = ticks_after(case.cron, place, START)
    assert list(takewhile(lambda tick: tick < END, at_once)) == every
    # The scheduler asks anew after every tick; of very many, every 23rd will do where no clock
    # changes.
    many = len(every) > 5000
    for number, (last, tick) in enumerate(pairwise([START, *every])):
        if many and number % 23 and not clock_changes(tick, place):
            continue
        assert next(ticks_after(case.cron, place, last)) == tick
    assert every or case.cron == "0 2 29 2 *"


def test_the_reference_knows_both_clock_changes() -> None:
    daily = expected(CASES[0], ZoneInfo("Europe/Berlin"))
    by_date = {tick.date().isoformat(): tick.strftime("%H:%M") for tick in daily}
    assert (by_date["2026-03-28"], by_date["2026-03-29"], by_date["2026-03-30"]) == (
        "01:00",
        "01:00",
        "00:00",
    )
    assert (by_date["2026-10-24"], by_date["2026-10-25"], by_date["2026-10-26"]) == (
        "00:00",
        "00:00",
        "01:00",
    )


def test_no_tick_comes_from_before_the_moment_asked_for() -> None:
    # 01:10 UTC is the second 02:10 of that night; 02:30 came first at 00:30 UTC.
    after = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    first = next(ticks_after("30 2 * * *", find_zone("Europe/Berlin"), after))
    assert first == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "0 0 2 * * *", "61 * * * *", "0 2 * * eight", "0 0 30 2 *", "@daily"]
)
def test_a_bad_expression_is_refused(cron: str) -> None:
    with pytest.raises(UserError, match="cron expression"):
        check_cron(cron)


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown time zone(.|\n)*did you mean 'Europe/Berlin'"):
        find_zone("Europe/Berlni")


def test_a_stamp_is_read_back() -> None:
    tick = datetime(2026, 11, 22, 1, tzinfo=UTC)
    assert stamp(tick.astimezone(ZoneInfo("Asia/Tokyo"))) == "20261122T010000Z"
    assert parse_stamp(stamp(tick)) == tick
