"""Troubles other than a process that ends: a full disk, a jumping clock, two drivers, damaged files."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import duckdb

from helpers.scenarios import OTHER, Bench, Place, Scenario, contents, scenario
from helpers.trials import Tally, at, check_whole, finish
from helpers.zygote import Signal

_REFUSED = 2

Trouble = Callable[[Bench, random.Random, Tally], None]
"""Makes a trial and counts what comes of it."""


def full_disk(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """A run meets a limit on the size of its files at a random place; with room again it goes on."""
    one, folder = scenario("run"), bench.new_trial("blank")
    limit = chance.randint(4096, bench.stores["done"].stat().st_size)
    tally.trials += 1
    ended = bench.zygote.run(bench.arguments(one, folder), bench.conditions(one, file_bytes=limit))
    what = f"disk full at {limit} bytes"
    tally.faults += ended.code != 0
    if ended.code not in (0, _REFUSED) or (ended.code and "disk is full" not in ended.said):
        tally.note("faulty", f"{what}: exit code {ended.code}: {ended.said[-800:]}")
    check_whole(folder / "store.duckdb", tally, what)
    finish(bench, one, folder, tally, what)


def jumping_clock(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """The wall clock is set back and forth by ten years throughout a run, a resumed one, and jobs."""
    for name in ("run", "jobs built again"):
        one = scenario(name)
        folder = bench.new_trial(one.base)
        tally.trials += 1
        sent = Signal(signal.SIGKILL, chance.uniform(0.2, 0.6))
        for signalled in (sent, None):
            ended = bench.zygote.run(
                bench.arguments(one, folder), bench.conditions(one, clock_jumps=True), signalled
            )
        tally.faults += 1
        if ended.code != 0:
            tally.note("faulty", f"{name} with a jumping clock: exit code {ended.code}: {ended.said[-800:]}")
        finish(bench, one, folder, tally, f"{name} with a jumping clock")


def two_drivers(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """Two processes do the same run, or two runs, in one store at once; one of them may be killed."""
    one = scenario("run")
    for other in (one, OTHER):
        folder, killed = bench.new_trial("blank"), chance.random() < 0.5
        sent = Signal(signal.SIGKILL, chance.uniform(0.1, 1.0)) if killed else None
        started = [
            bench.zygote.start(bench.arguments(one, folder), sent=sent),
            bench.zygote.start(bench.arguments(other, folder)),
        ]
        codes = [running.wait().code for running in started]
        tally.trials += 1
        tally.faults += 1
        what = f"two drivers, {'the same run' if other is one else 'two runs'}{', one killed' * killed}"
        if codes[1] != 0 or (codes[0] != 0 and not killed):
            tally.note("faulty", f"{what}: exit codes {codes}")
        check_whole(folder / "store.duckdb", tally, what)
        for which, name in ((one, "first"), (other, "second"))[: 1 if other is one else 2]:
            ended = bench.zygote.run(bench.arguments(which, folder))
            if ended.code != 0:
                tally.note("faulty", f"{what}: again: exit code {ended.code}: {ended.said[-800:]}")
            ours = contents(folder / "store.duckdb", run=name)
            theirs = contents(bench.undisturbed(which)[0] / "store.duckdb", run=name)
            tally.compare(ours, theirs, what)


def damaged_log(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """The log of a killed run is cut short or changed at random: the rest goes on, or a clear refusal."""
    one, folder = scenario("run"), bench.new_trial("blank")
    log = folder / "store.duckdb.wal"
    kill = at(Place("commit a chunk", "attattr_batch.runtime.driver:commit_chunks"), "after", 3)
    bench.zygote.run(bench.arguments(one, folder), bench.conditions(one, point=kill.point))
    content = bytearray(log.read_bytes())
    cut = chance.random() < 0.5
    place = chance.randrange(len(content))
    if cut:
        content = content[:place]
    else:
        content[place] ^= 1 << chance.randrange(8)
    log.write_bytes(content)
    what = f"log {'cut' if cut else 'changed'} at byte {place} of {len(content)}"
    _goes_on_or_refuses(bench, one, folder, tally, what)


def damaged_file(bench: Bench, chance: random.Random, tally: Tally) -> None:
    """A bit of a finished store is turned over: what is read is right, or the file is refused."""
    one, folder = scenario("run"), bench.new_trial("done")
    path = folder / "store.duckdb"
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    _goes_on_or_refuses(bench, one, folder, tally, f"file changed at byte {place}")


def _goes_on_or_refuses(bench: Bench, one: Scenario, folder: Path, tally: Tally, what: str) -> None:
    tally.trials += 1
    db = str(folder / "store.duckdb")
    for arguments in (bench.arguments(one, folder), ["verify", "--db", db]):
        ended = bench.zygote.run(arguments)
        if ended.code == _REFUSED and ended.said.startswith("error: "):
            tally.faults += 1
            return
        if ended.code != 0:
            tally.note("faulty", f"{what}: {arguments[0]}: exit code {ended.code}: {ended.said[-800:]}")
            return
    undisturbed, _ = bench.undisturbed(one)
    try:
        tally.compare(contents(folder / "store.duckdb"), contents(undisturbed / "store.duckdb"), what)
    except duckdb.Error:
        tally.faults += 1  # refused by whoever reads the rows that are gone


TROUBLES: dict[str, tuple[Trouble, int]] = {
    "disk full": (full_disk, 12),
    "clock that jumps": (jumping_clock, 2),
    "two drivers": (two_drivers, 4),
    "log cut or changed": (damaged_log, 20),
    "file changed": (damaged_file, 20),
}
"""By name, the trouble and how often a full run makes it."""
