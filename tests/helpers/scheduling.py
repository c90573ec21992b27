"""Schedules over a clock that the test sets, whose runs are only noted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attattr_batch.schedule.running import run_due
from attattr_batch.schedule.settings import Schedule, make_schedule
from attattr_batch.schedule.state import State, TickOutcome, TickRow
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
class NotedRuns:
    """Notes the runs of ticks instead of executing them.

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

    def run(self, schedule: Schedule, specs: Sequence[RunSpec], previous: Sequence[int]) -> TickOutcome:
        self.started += [str(spec.name) for spec in specs]
        self.specs += specs
        self.previous.append(tuple(previous))
        self.clock.forward(seconds=self.seconds if len(self.previous) == 1 else 0)
        if self.error is not None:
            raise self.error
        return TickOutcome("noted", [len(self.started)], self.findings)


class Bench:
    """A schedules file in a folder, with its clock and runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = State(folder / "schedules.sqlite")
        self.clock = Clock()
        self.runs = NotedRuns(self.clock)

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
            "notify_command": f"(cat; echo) >> '{self.folder / 'told'}'",
        }
        schedule = make_schedule(defaults | values)
        with self.state.transaction(create=True) as transaction:
            transaction.add(schedule)
        return schedule

    def run_due(self, only: str | None = None) -> list[TickRow]:
        return run_due(self.state, self.runs.run, self.clock, only)

    def statuses(self, name: str = "nightly") -> list[tuple[str, str]]:
        with self.state.transaction() as transaction:
            return [(stamp(row.tick)[:-3], row.status) for row in transaction.ticks(name)]

    def told(self) -> list[dict[str, Any]]:
        """The messages that schedules sent."""
        path = self.folder / "told"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
