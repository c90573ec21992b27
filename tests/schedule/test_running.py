"""Which ticks run, and how often: due, missed, interrupted, failing; by a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers.scheduling import Bench

from attattr_batch.errors import UserError
from attattr_batch.schedule.running import ATTEMPTS, run_due
from attattr_batch.schedule.state import TickOutcome


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_each_tick_runs_once_however_often_it_is_called(bench: Bench) -> None:
    bench.add()
    for _ in range(3 * 24 * 4):
        bench.clock.forward(minutes=15)
        bench.run_due()
    assert bench.runs.started == [f"nightly-2026010{day}T020000Z" for day in (1, 2, 3)]
    assert bench.statuses() == [(f"2026010{day}T0200", "done") for day in (1, 2, 3)]


def test_ticks_before_the_schedule_was_made_are_not_its_own(bench: Bench) -> None:
    bench.clock.forward(hours=2, seconds=1)
    bench.add()
    bench.clock.forward(hours=1)
    assert bench.run_due() == []


def test_of_missed_ticks_the_latest_runs(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.add()
    bench.clock.forward(days=4)
    with caplog.at_level("INFO"):
        bench.run_due()
    assert bench.statuses() == [("20260104T0200", "done")]
    assert "3 ticks before 20260104T020000Z were missed" in caplog.text
    assert bench.run_due() == []


def test_of_ticks_that_fall_into_a_run_the_latest_runs_afterwards(bench: Bench) -> None:
    bench.add()
    bench.runs.seconds = timedelta(hours=50).total_seconds()
    bench.clock.forward(hours=3)
    bench.run_due()
    assert bench.statuses() == [("20260101T0200", "done"), ("20260103T0200", "done")]


def test_a_schedule_that_is_always_due_does_not_keep_others_from_running(bench: Bench) -> None:
    bench.add("a-busy", cron="* * * * *")
    bench.add("b-nightly")

    def busy(*_: object) -> TickOutcome:
        bench.runs.started.append("busy")
        if len(bench.runs.started) == 5:
            raise KeyboardInterrupt
        bench.clock.forward(minutes=2)
        return TickOutcome("busy")

    bench.clock.forward(hours=3)
    with pytest.raises(KeyboardInterrupt):
        run_due(bench.state, busy, bench.clock)
    assert bench.statuses("b-nightly") == [("20260101T0200", "done")]


def test_nobody_runs_a_tick_of_a_schedule_that_somebody_runs(bench: Bench) -> None:
    bench.add()
    bench.add("weekly")
    bench.clock.forward(days=1)
    with bench.state.lock("nightly"):
        assert [one.schedule for one in bench.run_due()] == ["weekly"]
    assert [one.schedule for one in bench.run_due()] == ["nightly"]


def test_an_interrupted_tick_goes_on_with_the_same_runs(bench: Bench) -> None:
    bench.add(spec="{task: sst2, model: bundled, limit: 3}")
    bench.clock.forward(hours=3)
    bench.runs.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run_due()
    assert bench.statuses() == [("20260101T0200", "running")]
    (bench.folder / "nightly.yaml").write_text("{task: rte, model: bundled}")  # not for this tick any more
    bench.runs.error = None
    bench.clock.forward(days=2)
    bench.run_due()
    assert bench.runs.started[:2] == ["nightly-20260101T020000Z"] * 2
    assert [spec.data.task for spec in bench.runs.specs] == ["sst2", "sst2", "rte"]
    assert bench.statuses() == [("20260101T0200", "done"), ("20260103T0200", "done")]


class Killed(BaseException):
    """Ends a process without a word."""


def test_a_tick_that_always_dies_fails_at_last(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.runs.error = Killed()
    for _ in range(ATTEMPTS):
        with pytest.raises(Killed):
            bench.run_due()
    (ended,) = bench.run_due()
    assert ended.needs_attention and "died 3 times" in str(ended.outcome)
    (message,) = bench.told()
    assert (message["schedule"], message["tick"], message["status"]) == (
        "nightly",
        "20260101T020000Z",
        "failed",
    )
    assert bench.run_due() == []
    assert bench.statuses() == [("20260101T0200", "failed")]
    assert len(bench.runs.started) == ATTEMPTS


def test_a_tick_that_is_stopped_on_purpose_may_be_stopped_often(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.runs.error = KeyboardInterrupt()
    for _ in range(2 * ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            bench.run_due()
    bench.runs.error = None
    bench.run_due()
    assert bench.statuses() == [("20260101T0200", "done")]


@pytest.mark.parametrize("error", [UserError("no data today"), ZeroDivisionError("a fault of ours")])
def test_a_failing_schedule_is_told_and_does_not_keep_others_from_running(
    bench: Bench, error: BaseException
) -> None:
    bench.add("a-first", spec="{task: sst2, model: bundled}")
    bench.add("b-second", spec="{task: rte, model: bundled}")
    bench.runs.error = error
    bench.clock.forward(hours=3)
    ended = bench.run_due()
    assert [(one.schedule, one.status, one.needs_attention) for one in ended] == [
        ("a-first", "failed", True),
        ("b-second", "failed", True),
    ]
    assert str(error) in str(ended[0].outcome)
    assert [message["schedule"] for message in bench.told()] == ["a-first", "b-second"]
    assert bench.run_due() == [], "a failed tick is not tried again"


def test_a_command_that_fails_is_logged_and_does_not_keep_other_schedules_from_running(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runs.findings = ("drift",)
    bench.add("a-first", notify_command="exit 3")
    bench.add("b-second")
    bench.clock.forward(hours=3)
    assert [(one.schedule, one.status) for one in bench.run_due()] == [
        ("a-first", "done"),
        ("b-second", "done"),
    ]
    assert "'exit 3' ended with exit code 3" in caplog.text
    (message,) = bench.told()
    assert (message["schedule"], message["findings"]) == ("b-second", ["drift"])


def test_the_runs_before_are_those_of_the_last_tick_that_had_any(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.run_due()
    bench.runs.error = UserError("not today")
    bench.clock.forward(days=1)
    bench.run_due()
    bench.runs.error = None
    bench.clock.forward(days=1)
    bench.run_due()
    assert bench.runs.previous == [(), (1,), (1,)]


def test_a_removed_schedule_leaves_no_lock_file_but_that_of_a_tick_which_runs(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    bench.run_due()
    (file,) = bench.folder.glob("*.lock")
    bench.state.remove("nightly")
    assert not file.exists()
    bench.add()
    with bench.state.lock("nightly") as free:
        assert free
        bench.state.remove("nightly")
    assert file.exists()
    with bench.state.transaction() as transaction:
        assert transaction.schedules() == []


def during_a_tick(bench: Bench, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Has something done once, while the first tick runs."""
    run = bench.runs.run

    def disturbed(*arguments: Any) -> TickOutcome:
        if not bench.runs.started:
            meanwhile()
        return run(*arguments)

    monkeypatch.setattr(bench.runs, "run", disturbed)


def test_a_schedule_removed_while_its_tick_runs_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add()
    during_a_tick(bench, monkeypatch, lambda: bench.state.remove("nightly"))
    bench.runs.seconds = timedelta(days=2).total_seconds()
    bench.clock.forward(days=1)
    assert [one.status for one in bench.run_due()] == ["done"]
    assert len(bench.runs.started) == 1, "its other ticks went with it"
    assert bench.statuses() == []
    bench.add(spec="{task: rte, model: bundled}")
    bench.clock.forward(days=1)
    bench.run_due()
    assert bench.runs.previous == [(), ()], "the runs of another schedule are none of its own"


def test_a_schedule_replaced_while_its_tick_runs_begins_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced() -> None:
        bench.state.remove("nightly")
        bench.add(spec="{task: rte, model: bundled}", cron="0 3 * * *")

    bench.add()
    bench.clock.forward(hours=2)
    during_a_tick(bench, monkeypatch, replaced)
    bench.run_due()
    assert bench.statuses() == []
    bench.clock.forward(hours=1)
    bench.run_due()
    assert [spec.data.task for spec in bench.runs.specs] == ["sst2", "rte"]
    assert (bench.statuses(), bench.runs.previous) == ([("20260101T0300", "done")], [(), ()])


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


def test_a_lock_that_cannot_be_taken_is_a_message(bench: Bench) -> None:
    bench.add()
    bench.clock.forward(hours=3)
    Path(f"{bench.state.path}.nightly.lock").mkdir()
    with pytest.raises(UserError, match=r"(?s)lock of a schedule.*nightly\.lock: Is a directory"):
        bench.run_due()
