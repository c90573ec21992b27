"""Real processes: racing callers claim a tick once; a killed one's tick is resumed, not doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scheduling import Bench

CALLER = """
import os, sys, time
from datetime import datetime
from pathlib import Path
from scheduling import Clock
from attattr_batch.schedule.running import Outcome, run_due
from attattr_batch.schedule.state import State

class Work:
    def run(self, schedule, specs, previous):
        with open(sys.argv[2], "a") as notes:
            notes.write(specs[0].name + "\\n")
        time.sleep(float(sys.argv[4]))
        return Outcome("done")
    def notify(self, schedule, tick):
        pass

while not Path(sys.argv[2] + ".go").exists():
    time.sleep(0.001)
run_due(State(Path(sys.argv[1])), Work(), Clock(datetime.fromisoformat(sys.argv[3])))
"""


def call(bench: Bench, seconds: float) -> subprocess.Popen[bytes]:
    notes = bench.folder / "notes"
    arguments = [str(bench.state.path), str(notes), bench.clock.now.isoformat(), str(seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen([sys.executable, "-c", CALLER, *arguments], env=environment)


def notes(bench: Bench) -> list[str]:
    path = bench.folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("seconds", [0.0, 0.5], ids=["one after the other", "while one runs"])
def test_four_racing_callers_run_each_tick_once(tmp_path: Path, seconds: float) -> None:
    bench = Bench(tmp_path)
    bench.add(missed="all", cron="0 */6 * * *")
    bench.clock.forward(days=1, hours=1)
    callers = [call(bench, seconds) for _ in range(4)]
    time.sleep(0.5)
    (tmp_path / "notes.go").touch()
    assert [caller.wait(60) for caller in callers] == [0] * 4
    expected = [f"nightly-20260101T{hour:02}0000Z" for hour in (6, 12, 18)] + ["nightly-20260102T000000Z"]
    assert notes(bench) == expected
    assert [status for _, status in bench.statuses()] == ["done"] * 4


def test_a_killed_caller_s_tick_is_resumed_at_once_and_ends_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add()
    bench.clock.forward(hours=3)
    (tmp_path / "notes.go").touch()
    killed = call(bench, 60.0)
    while not notes(bench):
        time.sleep(0.02)
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
