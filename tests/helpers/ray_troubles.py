"""Processes of a run on Ray are killed: the driver, or one of its workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from attattr_batch.runtime.executors.ray_actor import Actor
from helpers.scenarios import RUN, Bench, Scenario, contents
from helpers.trials import Tally, check_whole

# Chunks take long enough for something to happen in the middle.
SLOW_RUN = Scenario("run on Ray", "blank", (*RUN, "--quadrature", "gauss-legendre", "--nodes", "128"))
_ON_RAY = ("--executor", "ray", "--workers", "2")
_GONE_S = 30.0
_AGENTS = ("ray::RuntimeEnvAgent", "ray::DashboardAgent")


def killed_driver(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """The driver is killed: its cluster ends too, and the run goes on, here without Ray."""
    folder = bench.new_trial("blank")
    with _start(bench, folder) as driver:
        family = _family_at_work(driver, folder)
        # Ray's two agents, which neither compute nor know the store, may outlive the rest.
        agents = [one for one in family if _name(one).startswith(_AGENTS)]
        time.sleep(chance.uniform(0, 0.3))
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    tally.trials += 1
    tally.faults += 1
    _, alive = psutil.wait_procs([one for one in family if one not in agents], timeout=_GONE_S)
    for process in alive:
        tally.note("faulty", f"left behind by a killed driver: {process}")
    for process in (*alive, *agents):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    check_whole(folder / "store.duckdb", tally, "driver on Ray killed")
    _finish(bench, folder, tally, "driver on Ray killed")


def killed_worker(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """A worker is killed: the run does not even stop."""
    folder = bench.new_trial("blank")
    with _start(bench, folder) as driver:
        family = _family_at_work(driver, folder)
        time.sleep(chance.uniform(0, 0.3))
        workers = [one for one in family if _name(one).startswith(f"ray::{Actor.__name__}")]
        chance.choice(workers).kill()
        tally.trials += 1
        tally.faults += 1
        _, said = driver.communicate(timeout=240)
    if driver.returncode != 0:
        tally.note("faulty", f"worker on Ray killed: exit code {driver.returncode}: {said[-800:]}")
    _finish(bench, folder, tally, "worker on Ray killed")


def _start(bench: Bench, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "attattr_batch", *bench.arguments(SLOW_RUN, folder), *_ON_RAY]
    own = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _family_at_work(driver: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    """All processes of the run, once something is committed."""
    log, seen, deadline = folder / "store.duckdb.wal", set[int](), time.monotonic() + 120
    while len(seen) < 2 and driver.poll() is None and time.monotonic() < deadline:
        if log.exists():
            seen.add(log.stat().st_size)
        time.sleep(0.005)
    assert driver.poll() is None, "the run ended before anything could happen to it"
    return psutil.Process(driver.pid).children(recursive=True)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "gone"


def _finish(bench: Bench, folder: Path, tally: Tally, what: str) -> None:
    """Gives the command again without Ray, and compares all but the settings, which name the executor."""
    ended = bench.zygote.run(bench.arguments(SLOW_RUN, folder))
    if ended.code != 0:
        tally.note("faulty", f"{what}: again: exit code {ended.code}: {ended.said[-800:]}")
    pair = [contents(place / "store.duckdb") for place in (folder, bench.undisturbed(SLOW_RUN)[0])]
    ours, theirs = ({name: rows for name, rows in one.items() if name != "runs"} for one in pair)
    tally.compare(ours, theirs, what)


RAY_TROUBLES = {"driver on Ray killed": (killed_driver, 3), "worker on Ray killed": (killed_worker, 3)}
"""By name, the trouble and how often a full run makes it."""
