"""Claiming and running ticks.

Nothing waits between the calls: every call derives from the clock and the known ticks what is due. Cron, a
systemd timer and Kubernetes may call as often as they like, from anywhere, at the same time.
"""

from __future__ import annotations

import json
import logging
import subprocess
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import datetime
from itertools import takewhile

from attattr_batch.errors import AttattrError
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.specs import resolve
from attattr_batch.schedule.state import State, Status, TickOutcome, TickRow, Transaction
from attattr_batch.schedule.timing import stamp, ticks_after
from attattr_batch.spec import RunSpec, make_spec

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a tick is started before it fails; one that kills its process would otherwise start for ever."""

_NOTIFY_S = 30.0

Clock = Callable[[], datetime]
"""Gives the time, in UTC."""

RunTick = Callable[[Schedule, Sequence[RunSpec], Sequence[int]], TickOutcome]
"""Executes the runs of a tick; raises AttattrError if one cannot be done. It gets the schedule, the runs, and
the ids of the runs of the last tick that had any."""


def run_due(state: State, run_tick: RunTick, clock: Clock, only: str | None = None) -> list[TickRow]:
    """Runs every tick that is due, one after the other, until none is.

    Args:
        state: The schedules.
        run_tick: Executes the runs of a tick.
        clock: Gives the time.
        only: Name of one schedule; None for all of them.

    Returns:
        The ticks that ended in this call.

    Raises:
        UserError: there is no such schedule, or the file cannot be used.
    """
    with state.transaction() as transaction:
        schedules = transaction.schedules() if only is None else [transaction.find(only)]
    ended: list[TickRow] = []
    more = True
    while more:  # in rounds, so that a schedule which is always due does not keep the others from running
        ticks = [_run_next(state, run_tick, clock, schedule) for schedule in schedules]
        more = any(ticks)
        ended += [tick for tick in ticks if tick is not None]
    return ended


def _run_next(state: State, run_tick: RunTick, clock: Clock, schedule: Schedule) -> TickRow | None:
    """Runs the tick of a schedule that is to run now.

    Gives None where nothing is due, where a living process runs the schedule, or where the schedule was
    removed (and perhaps added anew) since the caller read it. A tick that killed its process every time is
    given once, as `failed`. Claim and lock are taken in one transaction, and whoever holds the lock records
    the end of the tick before freeing it. So two callers never run a tick twice, nor two ticks of a schedule
    at once.
    """
    with ExitStack() as held:
        tick = None
        with state.transaction() as transaction:
            if schedule in transaction.schedules() and held.enter_context(state.lock(schedule.name)):
                tick = _claim(transaction, schedule, clock())
        if tick is not None and tick.status == "running":
            tick = _ended(state, run_tick, schedule, tick)
        if tick is not None:
            _tell(schedule, tick)
        return tick


def _claim(transaction: Transaction, schedule: Schedule, now: datetime) -> TickRow | None:
    """The interrupted tick of a schedule if there is one, otherwise the latest that is due."""
    known = transaction.ticks(schedule.name)
    for row in known:
        if row.status == "running":  # we hold the lock, so the process that ran it is gone
            return _reclaim(transaction, row)
    last = known[-1].tick if known else schedule.created_at
    due = list(takewhile(lambda tick: tick <= now, ticks_after(schedule.cron, schedule.zone, last)))
    if not due:
        return None
    if len(due) > 1:
        log.info("schedule %s: %d ticks before %s were missed", schedule.name, len(due) - 1, stamp(due[-1]))
    claim = TickRow(schedule.name, due[-1], "running")
    transaction.insert(claim)
    return claim


def _reclaim(transaction: Transaction, interrupted: TickRow) -> TickRow:
    if interrupted.attempts < ATTEMPTS:
        log.info("schedule %s: going on with tick %s", interrupted.schedule, stamp(interrupted.tick))
        claim = replace(interrupted, attempts=interrupted.attempts + 1)
    else:
        outcome = TickOutcome(f"its process died {interrupted.attempts} times")
        claim = replace(interrupted, status="failed", outcome=outcome)
    transaction.update(claim)
    return claim


def _ended(state: State, run_tick: RunTick, schedule: Schedule, claim: TickRow) -> TickRow:
    """Runs a claimed tick to its end, whatever that is, and records it."""
    status: Status
    try:
        status, outcome = _run(state, run_tick, schedule, claim)
    except KeyboardInterrupt:
        # A stop by a person or a reboot does not count as an attempt.
        state.update(replace(claim, attempts=claim.attempts - 1))
        raise
    except AttattrError as error:
        status, outcome = "failed", TickOutcome(" ".join(str(error).split()))
    except Exception as error:
        # A fault in one schedule must not keep the others from running.
        log.error("schedule %s: %s", schedule.name, traceback.format_exc())
        status, outcome = "failed", TickOutcome(f"{type(error).__name__}: {error}")
    ended = replace(claim, status=status, outcome=outcome)
    state.update(ended)
    return ended


def _run(state: State, run_tick: RunTick, schedule: Schedule, claim: TickRow) -> tuple[Status, TickOutcome]:
    resolved = claim.resolved
    if resolved is None:
        resolved = resolve(schedule, claim.tick)
        state.update(replace(claim, resolved=resolved))
    specs = [make_spec(settings, where="the schedules file") for settings in resolved]
    with state.transaction() as transaction:
        earlier = [row.outcome.runs for row in transaction.ticks(schedule.name) if row.outcome]
    previous = next((runs for runs in reversed(earlier) if runs), [])
    outcome = run_tick(schedule, specs, previous)
    return "unchanged" if outcome.runs and outcome.runs == previous else "done", outcome


def _tell(schedule: Schedule, tick: TickRow) -> None:
    """Logs how a tick ended. If it needs attention, the schedule's command gets that as JSON on stdin."""
    outcome = tick.outcome or TickOutcome("")
    level = logging.WARNING if tick.needs_attention else logging.INFO
    for line in (f"tick {stamp(tick.tick)} {tick.status}: {outcome.message}", *outcome.findings):
        log.log(level, "schedule %s: %s", tick.schedule, line)
    if tick.needs_attention and schedule.notify_command is not None:
        facts = {"schedule": tick.schedule, "tick": stamp(tick.tick), "status": tick.status}
        _notify(schedule.notify_command, json.dumps({**facts, "db": str(schedule.db), **asdict(outcome)}))


def _notify(command: str, message: str) -> None:
    """Calls the command; where that fails the log says so, for other schedules are due."""
    try:
        subprocess.run(command, shell=True, input=message.encode(), timeout=_NOTIFY_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("the schedule's --notify-command failed: %s", error)
