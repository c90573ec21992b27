"""One trial: a command is disturbed, given again, and its result compared with an undisturbed one."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from attattr_batch.analysis.audits import run_audits
from attattr_batch.store.database.connection import Store
from helpers.points import Moment, Point
from helpers.scenarios import Bench, Contents, Place, Scenario, contents, files, is_whole
from helpers.zygote import Ended, Signal

MOMENTS: tuple[Moment, ...] = ("before", "during", "after")
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_INTERRUPTED = 130


@dataclass
class Tally:
    """What came of the trials of one kind.

    Attributes:
        trials: Trials made.
        faults: Faults that fell into the work (a signal may come after its end).
        lost: Rows that the undisturbed result has and this one lacks.
        doubled: Rows that this one has and the undisturbed one lacks, or has less often.
        torn: Times a store was found with part of an example, a table or a file, or could not be read.
        faulty: Audits that failed, commands that ended otherwise than promised, tracebacks.
        notes: What was wrong, for people.
    """

    trials: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    faulty: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.lost or self.doubled or self.torn or self.faulty)

    def compare(self, ours: Contents, theirs: Contents, what: str) -> None:
        """Counts the rows that differ."""
        for name in sorted(set(ours) | set(theirs)):
            if name not in ours or name not in theirs:
                self.note("torn", f"{what}: table {name} in one alone")
                continue
            lost, doubled = theirs[name] - ours[name], ours[name] - theirs[name]
            if lost or doubled:
                self.lost += lost.total()
                self.doubled += doubled.total()
                self.notes.append(f"{what}: {name}: {lost.total()} lost, {doubled.total()} doubled")

    def note(self, kind: str, what: str) -> None:
        """Counts something wrong."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(what)


@dataclass(frozen=True)
class Fault:
    """One disturbance: at a point of the code, or by a signal after some time.

    Attributes:
        kind: The row of the table it belongs to.
        what: In words.
        point: Where the command ends itself.
        sent: When it is ended from outside.
    """

    kind: str
    what: str
    point: Point | None = None
    sent: Signal | None = None


def at(place: Place, moment: str, call: int, how: int = signal.SIGKILL, delay_s: float = 0.0) -> Fault:
    """A fault at a place."""
    name = signal.Signals(how).name
    point = Point(place.target, moment, call, delay_s, how)  # type: ignore[arg-type]
    return Fault(f"{name} at a chosen point", f"{name} {moment} call {call} of {place.what}", point=point)


def at_random(chance: random.Random, one: Scenario, seconds: float) -> Fault:
    """A fault at a random moment of a command that takes `seconds`, or at a random point of its code."""
    how = chance.choices(_SIGNALS, (6, 1, 1))[0]
    if chance.random() < 0.5:
        after_s = chance.uniform(0.0, seconds)
        name = signal.Signals(how).name
        return Fault(f"{name} at random", f"{name} after {after_s:.3f} s", sent=Signal(how, after_s))
    place = chance.choice(one.places)
    moment = chance.choice(("before", "during", "after"))
    return at(place, moment, chance.randint(1, place.calls), how, chance.expovariate(1 / 0.01))


def disturb(bench: Bench, one: Scenario, faults: Sequence[Fault], tally: Tally) -> None:
    """Gives a command, disturbed by one fault after the other, then undisturbed, and compares."""
    folder, what = bench.new_trial(one.base), one.name
    tally.trials += 1
    for fault in faults:
        what += f", {fault.what}"
        ended = bench.zygote.run(
            bench.arguments(one, folder), bench.conditions(one, point=fault.point), fault.sent
        )
        if _gone(one, ended):
            break
        tally.faults += ended.code != 0
        if ended.code not in (0, _INTERRUPTED, *(-how for how in _SIGNALS)):
            tally.note("faulty", f"{what}: exit code {ended.code}: {ended.said[-500:]}")
        check_whole(folder / "store.duckdb", tally, what)
        if (folder / "copy.duckdb").exists():
            tally.compare(contents(folder / "copy.duckdb"), contents(folder / "store.duckdb"), what)
    finish(bench, one, folder, tally, what)
    if tally.clean:
        shutil.rmtree(folder)


def finish(bench: Bench, one: Scenario, folder: Path, tally: Tally, what: str) -> None:
    """Gives the command again, undisturbed, and compares the result with the undisturbed one."""
    undisturbed, _ = bench.undisturbed(one)
    ended = bench.zygote.run(bench.arguments(one, folder), bench.conditions(one))
    if ended.code != 0 and not _gone(one, ended):
        tally.note("faulty", f"{what}: the same command again: exit code {ended.code}: {ended.said[-800:]}")
        return
    tally.compare(contents(folder / "store.duckdb"), contents(undisturbed / "store.duckdb"), what)
    if (undisturbed / "copy.duckdb").exists():
        tally.compare(contents(folder / "copy.duckdb"), contents(undisturbed / "copy.duckdb"), what)
    if (undisturbed / "export").exists() and files(folder / "export") != files(undisturbed / "export"):
        tally.note("torn", f"{what}: the exports differ")
    if not one.newer:
        failed = [audit.name for audit in run_audits(Store(folder / "store.duckdb"))[0] if not audit.passed]
        if failed:
            tally.note("faulty", f"{what}: audits {', '.join(failed)}")


def _gone(one: Scenario, ended: Ended) -> bool:
    """Whether the run to be deleted is: the command had done its work when it was ended."""
    return one.name == "rm" and "no such run" in ended.said


def check_whole(db: Path, tally: Tally, what: str) -> None:
    try:
        if not is_whole(db):
            tally.note("torn", f"{what}: part of an example is there")
    except duckdb.Error as error:
        tally.note("torn", f"{what}: {error}")
