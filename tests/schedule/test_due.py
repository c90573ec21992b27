"""Which ticks run: missed ones, overlapping ones, interrupted ones, failing ones; by a clock of our own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scheduling import Bench

from attattr_batch.errors import UserError
from attattr_batch.schedule.due import ATTEMPTS, choose, pending
from attattr_batch.schedule.running import TickOutcome, needs_attention
from attattr_batch.schedule.state import TickRow


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_each_tick_runs_once_however_often_it_is_called(bench: Bench) -> None:
    bench.add()
    for _ in range(3 * 24 * 4):
        bench.clock.forward(minutes=15)
        bench.run_due()
    assert bench.work.started == [f"nightly-2026010{day}T020000Z" for day in (1, 2, 3)]
    assert bench.statuses() == [(f"2026010{day}T0200", "done") for day in (1, 2, 3)]


def test_ticks_before_the_schedule_was_made_are_not_its_own(bench: Bench) -> None:
    bench.clock.forward(hours=2, seconds=1)
    bench.add()
    bench.clock.forward(hours=1)
    assert bench.run_due() == []


@pytest.mark.parametrize(
    ("missed", "started", "statuses"),
    [
        ("last", [4], ["skipped", "skipped", "skipped", "done"]),
        ("all", [1, 2, 3, 4], ["done", "done", "done", "done"]),
        ("skip", [], ["skipped", "skipped", "skipped", "skipped"]),
    ],
)
def test_missed_ticks(bench: Bench, missed: str, started: list[int], statuses: list[str]) -> None:
    bench.add(missed=missed)
    bench.clock.forward(days=4)
    bench.run_due()
    assert bench.work.started == [f"nightly-2026010{day}T020000Z" for day in started]
    assert [status for _, status in bench.statuses()] == statuses
    bench.run_due()
    assert len(bench.work.started) == len(started)


@pytest.mark.parametrize(("late_s", "started"), [(0, 1), (5 * 60, 1), (5 * 60 + 1, 0)])
def test_skip_runs_a_tick_that_is_at_most_five_minutes_late(bench: Bench, late_s: int, started: int) -> None:
    bench.add(missed="skip")
    bench.clock.forward(hours=2, seconds=late_s)
    bench.run_due()
    assert len(bench.work.started) == started


def test_a_long_pause_leaves_few_rows(bench: Bench) -> None:
    bench.add(cron="* * * * *")
    bench.clock.forward(days=1)
    bench.run_due()
    assert len(bench.work.started) == 1
    assert len(bench.statuses()) == 101


@pytest.mark.parametrize(
    ("overlap", "days", "statuses"),
    [
        ("skip", [1, 4], ["done", "skipped", "skipped", "done"]),
        ("queue", [1, 2, 3, 4], ["done", "done", "done", "done"]),
    ],
)
def test_ticks_that_fall_into_a_run(bench: Bench, overlap: str, days: list[int], statuses: list[str]) -> None:
    bench.add(overlap=overlap)
    bench.work.seconds = timedelta(hours=50).total_seconds()
    while bench.clock.forward(minutes=30).day < 5:
        bench.run_due()
    assert bench.work.started == [f"nightly-2026010{day}T020000Z" for day in days]
    assert [status for _, status in bench.statuses()] == statuses


def test_queued_ticks_run_even_where_missed_ones_do_not(bench: Bench) -> None:
    schedule = bench.add(cron="0 * * * *", overlap="queue", missed="skip")
    first = bench.clock.forward(hours=1)
    ran = TickRow(schedule.name, first, "done", 1, ran=((first, first + timedelta(hours=2.5)),))
    later = first + timedelta(hours=6)
    chosen, dropped = choose(schedule, [ran], later)
    assert chosen == first + timedelta(hours=1)
    assert dropped == []
    second = replace(ran, tick=first + timedelta(hours=2), ran=((later, later),))
    chosen, dropped = choose(schedule, [ran, second], later + timedelta(minutes=10))
    assert chosen is None
    assert {reason for _, reason in dropped} == {"missed"} and len(dropped) == 4


def test_jitter_delays_the_start_but_not_the_tick(bench: Bench) -> None:
    schedule = bench.add(jitter_s=3600)
    assert timedelta(0) < schedule.delay < timedelta(hours=1)
    bench.clock.now = datetime.fromisoformat("2026-01-01T02:00Z") + schedule.delay - timedelta(seconds=1)
    assert bench.run_due() == []
    bench.clock.forward(seconds=1)
    (tick,) = bench.run_due()
    assert tick.tick.hour == 2 and bench.work.started == ["nightly-20260101T020000Z"]


def test_an_interrupted_tick_goes_on_with_the_same_runs(bench: Bench) -> None:
    bench.add(spec="{task: sst2, model: bundled, limit: 3}")
    bench.clock.forward(hours=3)
    bench.work.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run_due()
    assert bench.statuses() == [("20260101T0200", "running")]
    (bench.folder / "nightly.yaml").write_text("{task: rte, model: bundled}")  # not for this tick any more
    bench.work.error = None
    bench.clock.forward(days=2)
    bench.run_due()
    assert bench.work.started[:2] == ["nightly-20260101T020000Z"] * 2
    assert [spec.data.task for spec in bench.work.specs] == ["sst2", "sst2", "rte"]
    # Nobody ran while it was down: of what was missed the last one runs.
    assert [status for _, status in bench.statuses()] == ["done", "skipped", "done"]


class Killed(BaseException):
    """Ends a process without a word."""


Stopped = KeyboardInterrupt
OVERLAP, MISSED = "the run before was still going", "missed"


@pytest.mark.parametrize(
    ("overlap", "missed", "error", "hours", "dropped"),
    [
        ("queue", "skip", Stopped(), [1, 2, 3, 7], {4: MISSED, 5: MISSED, 6: MISSED}),
        ("queue", "last", Stopped(), [1, 2, 3, 6, 7], {4: MISSED, 5: MISSED}),
        ("skip", "last", Stopped(), [1, 6], {2: OVERLAP, 3: OVERLAP, 4: MISSED, 5: MISSED, 7: OVERLAP}),
        ("skip", "all", Stopped(), [1, 4, 5, 6], {2: OVERLAP, 3: OVERLAP, 7: OVERLAP}),
        ("queue", "skip", Killed(), [1, 2, 3, 4, 5, 6, 7], {}),
        ("skip", "last", Killed(), [1, 6], {2: MISSED, 3: MISSED, 4: MISSED, 5: MISSED, 7: OVERLAP}),
    ],
)  # fmt: skip
def test_ticks_that_fall_into_a_run_which_was_interrupted(
    bench: Bench, overlap: str, missed: str, error: BaseException, hours: list[int], dropped: dict[int, str]
) -> None:
    """The run of 01:00 is ended at 03:30, goes on at 06:30, and ends at 07:06."""
    bench.add(cron="0 * * * *", overlap=overlap, missed=missed)
    bench.clock.forward(hours=1)
    bench.work.error, bench.work.seconds = error, timedelta(hours=2.5).total_seconds()
    with pytest.raises(type(error)):
        bench.run_due()
    bench.clock.forward(hours=3)
    bench.work.previous.clear()  # the next attempt takes its time too
    bench.work.error, bench.work.seconds = None, timedelta(minutes=36).total_seconds()
    bench.run_due()
    with bench.state.transaction() as transaction:
        rows = transaction.ticks("nightly")
    assert [row.tick.hour for row in rows if row.status == "done"] == hours
    skipped = [row for row in rows if row.status == "skipped"]
    assert {row.tick.hour: (row.outcome or {})["message"] for row in skipped} == dropped


def test_a_schedules_file_of_version_1_goes_on(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.run_due()
    with closing(sqlite3.connect(bench.state.path)) as connection, connection:
        connection.execute("ALTER TABLE ticks DROP COLUMN ran")
        connection.execute("ALTER TABLE ticks ADD COLUMN started_at TEXT")
        connection.execute("ALTER TABLE ticks ADD COLUMN finished_at TEXT")
        connection.execute("UPDATE ticks SET started_at = '2026-01-01T03:00:00+00:00'")
        connection.execute("PRAGMA user_version = 1")
    with bench.state.transaction() as transaction:
        (row,) = transaction.ticks("nightly")
    assert (row.status, row.ran) == ("done", ((bench.clock.now, None),))
    bench.clock.forward(days=1)
    bench.run_due()
    assert [status for _, status in bench.statuses()] == ["done", "done"]


def test_a_tick_that_always_dies_fails_at_last(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.work.error = Killed()
    for _ in range(ATTEMPTS):
        with pytest.raises(Killed):
            bench.run_due()
    (ended,) = bench.run_due()
    assert needs_attention(ended) and "died 3 times" in str(ended.outcome)
    assert bench.work.notified == [ended]
    assert bench.run_due() == []
    assert bench.statuses() == [("20260101T0200", "failed")]
    assert len(bench.work.started) == ATTEMPTS


def test_a_tick_that_is_stopped_on_purpose_may_be_stopped_often(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.work.error = KeyboardInterrupt()
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            bench.run_due()
    bench.work.error = None
    bench.run_due()
    assert bench.statuses() == [("20260101T0200", "done")]


@pytest.mark.parametrize("error", [UserError("no data today"), ZeroDivisionError("a fault of ours")])
def test_a_failing_schedule_is_told_and_does_not_keep_others_from_running(
    bench: Bench, error: BaseException
) -> None:
    bench.add("a-first", spec="{task: sst2, model: bundled}")
    bench.add("b-second", spec="{task: rte, model: bundled}")
    bench.work.error = error
    bench.clock.forward(hours=3)
    ended = bench.run_due()
    assert [(one.schedule, one.status, needs_attention(one)) for one in ended] == [
        ("a-first", "failed", True),
        ("b-second", "failed", True),
    ]
    assert str(error) in str(ended[0].outcome)
    assert [one.schedule for one in bench.work.notified] == ["a-first", "b-second"]
    assert bench.run_due() == [], "a failed tick is not tried again"


def test_who_cannot_be_told_does_not_keep_other_schedules_from_running(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def notify(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(bench.work, "notify", notify)
    bench.work.findings = ("drift",)
    bench.add("a-first")
    bench.add("b-second")
    bench.clock.forward(hours=3)
    assert [(one.schedule, one.status) for one in bench.run_due()] == [
        ("a-first", "done"),
        ("b-second", "done"),
    ]
    assert "schedule a-first: nobody could be told" in caplog.text
    assert "a fault of ours" in caplog.text


def test_the_runs_before_are_those_of_the_last_tick_that_had_any(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.run_due()
    bench.work.error = UserError("not today")
    bench.clock.forward(days=1)
    bench.run_due()
    bench.work.error = None
    bench.clock.forward(days=1)
    bench.run_due()
    assert bench.work.previous == [(), (1,), (1,)]


def test_pending_says_whether_run_due_has_something_to_do(bench: Bench) -> None:
    bench.add()
    assert not pending(bench.state, bench.clock.now)
    bench.clock.forward(hours=2)
    assert pending(bench.state, bench.clock.now) == ["nightly"]
    assert pending(bench.state, bench.clock.now, "nightly")
    bench.add("weekly", missed="all")
    bench.clock.forward(days=1)
    assert pending(bench.state, bench.clock.now) == ["nightly", "weekly"]
    lock = bench.state.lock("nightly")
    assert lock is not None
    assert pending(bench.state, bench.clock.now) == ["weekly"], "somebody runs the other"


def test_a_removed_schedule_leaves_no_lock_file_but_that_of_a_tick_which_runs(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.run_due()
    (file,) = bench.folder.glob("*.lock")
    bench.state.remove("nightly")
    assert not file.exists()
    bench.add()
    lock = bench.state.lock("nightly")
    assert lock is not None
    bench.state.remove("nightly")
    assert file.exists()
    os.close(lock)
    with bench.state.transaction() as transaction:
        assert transaction.schedules() == []


def during_a_tick(bench: Bench, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Has something done once, while the first tick runs."""
    run = bench.work.run

    def disturbed(*arguments: Any) -> TickOutcome:
        if not bench.work.started:
            meanwhile()
        return run(*arguments)

    monkeypatch.setattr(bench.work, "run", disturbed)


def test_a_schedule_removed_while_its_tick_runs_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add(missed="all")
    during_a_tick(bench, monkeypatch, lambda: bench.state.remove("nightly"))
    bench.clock.forward(days=2)
    assert [one.status for one in bench.run_due()] == ["done"]
    assert len(bench.work.started) == 1, "its other ticks went with it"
    assert bench.statuses() == []
    bench.add(spec="{task: rte, model: bundled}")
    bench.clock.forward(days=1)
    bench.run_due()
    assert bench.work.previous == [(), ()], "the runs of another schedule are none of its own"


def test_a_schedule_replaced_while_its_tick_runs_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced() -> None:
        bench.state.remove("nightly")
        bench.add(spec="{task: rte, model: bundled}", cron="0 3 * * *")

    bench.add(missed="all")
    bench.clock.forward(hours=2)
    during_a_tick(bench, monkeypatch, replaced)
    bench.run_due()
    assert bench.statuses() == []
    bench.clock.forward(hours=1)
    bench.run_due()
    assert [spec.data.task for spec in bench.work.specs] == ["sst2", "rte"]
    assert (bench.statuses(), bench.work.previous) == ([("20260101T0300", "done")], [(), ()])


def test_a_schedule_removed_while_another_s_tick_runs_is_not_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add("a-first")
    bench.add("b-second")
    during_a_tick(bench, monkeypatch, lambda: bench.state.remove("b-second"))
    bench.clock.forward(hours=3)
    assert [one.schedule for one in bench.run_due()] == ["a-first"]
    assert bench.statuses("b-second") == []
    assert not Path(f"{bench.state.path}.b-second.lock").exists()


def test_ticks_that_an_earlier_release_left_of_a_removed_schedule_are_forgotten(bench: Bench) -> None:
    bench.add()
    with bench.state.transaction() as transaction:
        transaction.remove("nightly")
        left = TickRow("nightly", bench.clock.now, "done", 1, outcome={"runs": [7]})
        transaction.insert([left])
    bench.add()
    assert bench.statuses() == []


def test_a_lock_that_cannot_be_taken_is_a_message(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    Path(f"{bench.state.path}.nightly.lock").mkdir()
    with pytest.raises(UserError, match=r"(?s)lock of a schedule.*nightly\.lock: Is a directory"):
        bench.run_due()
