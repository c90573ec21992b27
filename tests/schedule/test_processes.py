"""Real processes: racing callers claim a tick once; a killed one's tick is resumed, not doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from helpers.scheduling import Bench

CALLER = """
import os, sys, time
from datetime import datetime
from pathlib import Path
from helpers.scheduling import Clock
from attattr_batch.schedule.running import run_due
from attattr_batch.schedule.state import State, TickOutcome

def run_tick(schedule, specs, previous):
    with open(sys.argv[2], "a") as notes:
        notes.write(specs[0].name + "\\n")
    time.sleep(float(sys.argv[4]))
    return TickOutcome("done")

Path(f"{sys.argv[2]}.ready.{os.getpid()}").touch()
while not Path(sys.argv[2] + ".go").exists():
    time.sleep(0.001)
run_due(State(Path(sys.argv[1])), run_tick, Clock(datetime.fromisoformat(sys.argv[3])))
"""


Call = Callable[[Bench, float], subprocess.Popen[bytes]]


@pytest.fixture
def call() -> Iterator[Call]:
    """Starts a caller whose ticks take so many seconds; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(bench: Bench, seconds: float) -> subprocess.Popen[bytes]:
        notes = bench.folder / "notes"
        arguments = [str(bench.state.path), str(notes), bench.clock.now.isoformat(), str(seconds)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        started.append(subprocess.Popen([sys.executable, "-c", CALLER, *arguments], env=environment))
        return started[-1]

    yield start
    for caller in started:
        caller.kill()
        caller.wait()


def wait_for(what: Callable[[], bool], callers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits until the callers have come so far; one that ended will not."""
    end = time.monotonic() + 120
    while not what():
        assert [caller.poll() for caller in callers] == [None] * len(callers), "a caller ended too soon"
        assert time.monotonic() < end, "the callers do not get there"
        time.sleep(0.01)


def notes(bench: Bench) -> list[str]:
    path = bench.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("seconds", [0.0, 0.5], ids=["one after the other", "while one runs"])
def test_four_racing_callers_run_each_tick_once(tmp_path: Path, call: Call, seconds: float) -> None:
    bench = Bench(tmp_path)
    names = [f"schedule-{number}" for number in range(4)]
    for name in names:
        bench.add(name)
    bench.clock.forward(hours=3)
    callers = [call(bench, seconds) for _ in range(4)]
    # Importing takes them seconds, not equally many: those that came before the last would not meet it.
    wait_for(lambda: len(list(tmp_path.glob("notes.ready.*"))) == 4, callers)
    (tmp_path / "notes.go").touch()
    assert [caller.wait(60) for caller in callers] == [0] * 4
    assert sorted(notes(bench)) == [f"{name}-20260101T020000Z" for name in names]
    assert [bench.statuses(name) for name in names] == [[("20260101T0200", "done")]] * 4


def test_a_killed_caller_s_tick_is_resumed_at_once_and_ends_once(tmp_path: Path, call: Call) -> None:
    bench = Bench(tmp_path)
    bench.add()
    bench.clock.forward(hours=3)
    (tmp_path / "notes.go").touch()
    killed = call(bench, 60.0)
    wait_for(lambda: bool(notes(bench)), [killed])
    bystander = call(bench, 0.0)
    assert bystander.wait(60) == 0
    assert len(notes(bench)) == 1, "a living process has it"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert bench.statuses() == [("20260101T0200", "running")]
    assert call(bench, 0.0).wait(60) == 0
    assert notes(bench) == ["nightly-20260101T020000Z"] * 2
    assert bench.statuses() == [("20260101T0200", "done")]
    assert call(bench, 0.0).wait(60) == 0
    assert len(notes(bench)) == 2
