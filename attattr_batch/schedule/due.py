"""Which tick runs now. Stateless: every call derives it from the clock and the ticks already known.

Cron, a systemd timer, Kubernetes or `schedule serve` only call; any number may, at any time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile, zip_longest

from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.state import State, TickRow, Transaction
from attattr_batch.schedule.timing import stamp, ticks_after

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a tick is started before it counts as failed: one that kills its process would come for ever."""

_ON_TIME = timedelta(minutes=5)
_SKIPPED_KEPT = 100


@contextmanager
def claimed(state: State, schedule: Schedule, now: datetime) -> Iterator[TickRow | None]:
    """Claims the tick of a schedule that is to run now, for as long as the context lasts.

    Gives None where nothing is due, where a living process runs the schedule, or where the schedule was
    removed (and perhaps added anew) since the caller read it. A tick that killed its process every time is
    given as `failed`, once, to be told of. The claim and the lock are taken in one
    transaction, and whoever holds the lock records the end before freeing it; so two callers never run a tick
    twice, nor two ticks of a schedule at once.
    """
    with ExitStack() as stack:
        with state.transaction() as transaction:
            lock = state.lock(schedule.name) if schedule in transaction.schedules() else None
            claim = None
            if lock is not None:
                stack.callback(os.close, lock)
                claim = _next_claim(transaction, schedule, now)
        yield claim


def pending(state: State, now: datetime, only: str | None = None) -> list[str]:
    """Names of the schedules (of all by default) with a tick that is due or interrupted and that nobody runs.

    Raises:
        UserError: there is no such schedule, or the file cannot be used.
    """
    names = []
    with state.transaction() as transaction:
        schedules = transaction.schedules() if only is None else [transaction.find(only)]
        for schedule in schedules:
            known = transaction.ticks(schedule.name)
            interrupted = any(row.status == "running" for row in known)
            if interrupted or choose(schedule, known, now)[0] is not None:
                lock = state.lock(schedule.name)
                if lock is not None:
                    os.close(lock)
                    names.append(schedule.name)
    return names


def _next_claim(transaction: Transaction, schedule: Schedule, now: datetime) -> TickRow | None:
    known = transaction.ticks(schedule.name)
    for row in known:
        if row.status != "running":
            continue
        # We hold the lock, so the process that ran this tick is gone.
        if row.attempts < ATTEMPTS:
            log.info("schedule %s: going on with tick %s", schedule.name, stamp(row.tick))
            claim = replace(row, attempts=row.attempts + 1, ran=(*row.ran, (now, None)))
        else:
            outcome = {"message": f"its process died {row.attempts} times"}
            # The last attempt ended at some time before now; an attempt of no length says so.
            claim = replace(row, status="failed", outcome=outcome, ran=(*row.ran, (now, now)))
        transaction.update(claim)
        return claim
    chosen, dropped = choose(schedule, known, now)
    rows = [TickRow(schedule.name, tick, "skipped", outcome={"message": reason}) for tick, reason in dropped]
    transaction.insert(rows[-_SKIPPED_KEPT:])
    if chosen is None:
        return None
    claim = TickRow(schedule.name, chosen, "running", attempts=1, ran=((now, None),))
    transaction.insert([claim])
    return claim


def choose(
    schedule: Schedule, known: Sequence[TickRow], now: datetime
) -> tuple[datetime | None, list[tuple[datetime, str]]]:
    """Decides among the ticks that are due and not known yet.

    Args:
        schedule: The schedule.
        known: Its known ticks, oldest first.
        now: The time.

    Returns:
        The tick to run, or None; and the ticks before it that will not run, oldest first, each with the
        reason.
    """
    last = max([row.tick for row in known], default=schedule.created_at)
    ticks = ticks_after(schedule.cron, schedule.zone, last)
    due = list(takewhile(lambda tick: tick + schedule.delay <= now, ticks))
    running = _running_spans(known, unsure=schedule.overlap == "queue")
    overlapped = {tick for tick in due if any(a <= tick + schedule.delay < b for a, b in running)}
    free = [tick for tick in due if tick not in overlapped]
    keep = set(overlapped if schedule.overlap == "queue" else ())
    if schedule.missed == "all":
        keep |= set(free)
    elif free and (schedule.missed == "last" or now - (free[-1] + schedule.delay) <= _ON_TIME):
        keep.add(free[-1])
    chosen = min(keep, default=None)
    reasons = [(tick, "the run before was still going" if tick in overlapped else "missed") for tick in due]
    return chosen, [one for one in reasons if one[0] not in keep and (chosen is None or one[0] < chosen)]


def _running_spans(known: Sequence[TickRow], *, unsure: bool) -> list[tuple[datetime, datetime]]:
    """From when to when a tick ran; what came between its attempts was missed.

    Nobody knows how long a process lived that died. With `unsure` it did until the next attempt, so that no
    queued tick is lost; else not at all, so that nothing is called an overlap that was none.
    """
    spans = []
    for row in known:
        for (start, end), following in zip_longest(row.ran, row.ran[1:]):
            until = following[0] if end is None and following is not None and unsure else end
            spans += [] if until is None else [(start, until)]
    return spans
