"""Running a claimed tick: its runs, then everything that looks at their results."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from attattr_batch.errors import AttattrError
from attattr_batch.schedule.due import claimed
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.state import State, Status, TickRow
from attattr_batch.schedule.template import Resolved, resolve
from attattr_batch.schedule.timing import stamp
from attattr_batch.spec import RunSpec

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class TickOutcome:
    """What came of a tick.

    Attributes:
        message: For people, in one line.
        runs: Ids of its runs in the store, in the order of the spec.
        findings: What needs attention: quarantined examples, failed audits, drift.
    """

    message: str
    runs: Sequence[int] = ()
    findings: Sequence[str] = field(default=())


class TickWork(Protocol):
    """What a tick does; the seam between claiming ticks and attributing."""

    def run(self, schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
        """Executes the runs and looks at the results.

        Args:
            schedule: The schedule.
            specs: Its runs at this tick.
            previous: Ids of the runs of the schedule's last tick that had any.

        Raises:
            AttattrError: a run cannot be done.
        """

    def notify(self, schedule: Schedule, tick: TickRow) -> None:
        """Tells who asked to be told that a tick needs attention."""


def run_due(state: State, work: TickWork, clock: Clock, only: str | None = None) -> list[TickRow]:
    """Runs every tick that is due, one after the other.

    Args:
        state: The schedules.
        work: What a tick does.
        clock: Gives the time, in UTC.
        only: One schedule's name; None for all.

    Returns:
        The ticks that ended in this call. An interrupted one is resumed by a later call.

    Raises:
        UserError: there is no such schedule, or the file cannot be used.
    """
    with state.transaction() as transaction:
        schedules = transaction.schedules() if only is None else [transaction.find(only)]
    ended = []
    for schedule in schedules:
        while (tick := _run_one(state, work, schedule, clock)) is not None:
            ended.append(tick)
    return ended


def needs_attention(tick: TickRow) -> bool:
    """Whether a tick failed or has findings."""
    return tick.status == "failed" or bool((tick.outcome or {}).get("findings"))


def _run_one(state: State, work: TickWork, schedule: Schedule, clock: Clock) -> TickRow | None:
    with claimed(state, schedule, clock()) as claim:
        if claim is None:
            return None
        if claim.status == "failed":
            _tell(work, schedule, claim)
            return claim
        try:
            status, outcome = _attempt(state, work, schedule, claim)
        except KeyboardInterrupt:
            # Stopped on purpose, by a person or a reboot, it does not count as an attempt.
            _record(state, claim, attempts=claim.attempts - 1, ran=claim.ran_until(clock()))
            raise
        except AttattrError as error:
            status, outcome = "failed", TickOutcome(" ".join(str(error).split()))
        except Exception as error:
            # One schedule's fault must not keep the others from running.
            log.error("schedule %s: %s", schedule.name, traceback.format_exc())
            status, outcome = "failed", TickOutcome(f"{type(error).__name__}: {error}")
        ran = claim.ran_until(clock())
        ended = _record(state, claim, status=status, outcome=asdict(outcome), ran=ran)
        _tell(work, schedule, ended)
        return ended


def _tell(work: TickWork, schedule: Schedule, ended: TickRow) -> None:
    """Logs how a tick ended, and tells who asked to be told if it needs attention."""
    outcome = ended.outcome or {}
    level = logging.WARNING if needs_attention(ended) else logging.INFO
    facts = (schedule.name, stamp(ended.tick), ended.status, outcome.get("message"))
    log.log(level, "schedule %s: tick %s %s: %s", *facts)
    for finding in outcome.get("findings", ()):
        log.warning("schedule %s: %s", schedule.name, finding)
    if not needs_attention(ended):
        return
    try:
        work.notify(schedule, ended)
    except Exception:  # the tick has ended, and other schedules are due
        log.error("schedule %s: nobody could be told: %s", schedule.name, traceback.format_exc())


def _record(state: State, claim: TickRow, **changes: Any) -> TickRow:
    """Changes a claimed tick's row, in which its runs may have been fixed since it was claimed."""
    with state.transaction() as transaction:
        known = {row.tick: row for row in transaction.ticks(claim.schedule)}
        changed = replace(known.get(claim.tick, claim), **changes)
        transaction.update(changed)
    return changed


def _attempt(state: State, work: TickWork, schedule: Schedule, claim: TickRow) -> tuple[Status, TickOutcome]:
    with state.transaction() as transaction:
        earlier = [row for row in transaction.ticks(schedule.name) if row.tick < claim.tick]
    with_runs = [row for row in earlier if row.outcome is not None and row.outcome.get("runs")]
    if claim.resolved is not None:
        resolved = Resolved.from_document(claim.resolved)
    else:
        name = f"{schedule.name}-{stamp(claim.tick)}"
        resolved = resolve(schedule.spec, claim.tick.astimezone(schedule.zone), name)
        with state.transaction() as transaction:
            transaction.update(replace(claim, resolved=resolved.document()))
    last = with_runs[-1] if with_runs else None
    if last is not None and last.resolved is not None:
        if resolved.same_work(Resolved.from_document(last.resolved)):
            return "unchanged", TickOutcome(f"checkpoint and data are those of tick {stamp(last.tick)}")
    previous: list[Any] = [] if last is None or last.outcome is None else last.outcome["runs"]
    return "done", work.run(schedule, resolved.specs, previous)
