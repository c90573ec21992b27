"""Schedules over a clock that the test sets, and work that only notes what it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attattr_batch.schedule.running import TickOutcome, run_due
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.state import State, TickRow, add_schedule
from attattr_batch.schedule.timing import stamp
from attattr_batch.spec import RunSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands still unless told."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now


@dataclass
class NotedWork:
    """Notes names of runs.

    Attributes:
        clock: Goes on by `seconds` during a tick.
        seconds: How long the first tick takes; the others take no time.
        error: Raised instead of finishing.
        findings: What every tick finds.
    """

    clock: Clock
    seconds: float = 0.0
    error: BaseException | None = None
    findings: tuple[str, ...] = ()
    started: list[str] = field(default_factory=list)
    specs: list[RunSpec] = field(default_factory=list)
    previous: list[tuple[int, ...]] = field(default_factory=list)
    notified: list[TickRow] = field(default_factory=list)

    def run(self, schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
        self.started += [str(spec.name) for spec in specs]
        self.specs += specs
        self.previous.append(tuple(previous))
        self.clock.forward(seconds=self.seconds if len(self.previous) == 1 else 0)
        if self.error is not None:
            raise self.error
        return TickOutcome("noted", [len(self.started)], self.findings)

    def notify(self, schedule: Schedule, tick: TickRow) -> None:
        self.notified.append(tick)


class Bench:
    """A schedules file in a folder, with its clock and work."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = State(folder / "schedules.sqlite")
        self.clock = Clock()
        self.work = NotedWork(self.clock)

    def add(
        self, name: str = "nightly", spec: str = "{task: sst2, model: bundled}", **values: Any
    ) -> Schedule:
        path = self.folder / f"{name}.yaml"
        path.write_text(spec, encoding="utf-8")
        defaults: dict[str, Any] = {
            "name": name,
            "cron": "0 2 * * *",
            "spec": path,
            "db": self.folder / "store.duckdb",
            "created_at": self.clock.now,
        }
        return add_schedule(self.state, defaults | values)

    def run_due(self, only: str | None = None) -> list[TickRow]:
        return run_due(self.state, self.work, self.clock, only)

    def statuses(self, name: str = "nightly") -> list[tuple[str, str]]:
        with self.state.transaction() as transaction:
            return [(stamp(row.tick)[:-3], row.status) for row in transaction.ticks(name)]
