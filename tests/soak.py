"""The fault matrix: disturbs commands at chosen and at random moments, gives them again, and compares.

    python tests/soak.py                # 200 kill points and everything else; twenty minutes
    ATTATTR_SOAK_SECONDS=600 python tests/soak.py  # less of it; each kind at least once

Prints what was tried, how often, and what came of it; exits 1 if a row was lost, doubled or torn.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from helpers.ray_troubles import RAY_TROUBLES
from helpers.scenarios import SCENARIOS, Bench, Scenario
from helpers.trials import MOMENTS, Tally, at, at_random, disturb
from helpers.troubles import TROUBLES
from helpers.zygote import Zygote

KILLS = 200
COLUMNS = ("trials", "faults", "lost", "doubled", "torn", "faulty")


def soak(bench: Bench, kills: int, seconds: float, seed: int, only: str = "") -> Iterator[tuple[str, Tally]]:
    """Makes all trials that fit into the time, which is shared out; gives the tally of each kind of fault."""
    chance, end = random.Random(seed), time.monotonic() + seconds
    troubles = TROUBLES | RAY_TROUBLES
    parts = len(troubles) + len(SCENARIOS)

    def deadline(part: int) -> float:
        now = time.monotonic()
        return now + (end - now) / (parts - part)

    for part, (one, share) in enumerate(zip(SCENARIOS, _shares(kills), strict=True)):
        if only in (name := f"ended: {one.name}"):
            yield name, killed(bench, one, share, (chance, deadline(part)))
    for part, (kind, (trouble, times)) in enumerate(troubles.items(), len(SCENARIOS)):
        tally, until = Tally(), deadline(part)
        for _ in range(times if only in kind else 0):
            if not tally.trials or time.monotonic() < until:
                try:
                    trouble(bench, chance, tally)
                except Exception:  # a fault of the matrix itself must not cost the table
                    tally.trials += 1
                    tally.note("faulty", traceback.format_exc())
        if only in kind:
            yield kind, tally


def killed(bench: Bench, one: Scenario, kills: int, how: tuple[random.Random, float]) -> Tally:
    """Ends a command at every chosen place, then at random, until it was ended `kills` times."""
    (chance, deadline), tally = how, Tally()
    _, seconds = bench.undisturbed(one)
    for place in one.places:
        if time.monotonic() < deadline:
            moment = MOMENTS[tally.trials % 3]
            disturb(bench, one, [at(place, moment, chance.randint(1, place.calls), delay_s=0.002)], tally)
    while tally.faults < kills and time.monotonic() < deadline:
        faults = [at_random(chance, one, seconds) for _ in range(chance.choices((1, 2, 3), (1, 1, 2))[0])]
        disturb(bench, one, faults, tally)
    return tally


def _shares(kills: int) -> list[int]:
    """Kill points a scenario: most for runs."""
    weights = [3, 5, 2, 2, 2, 1, 1]
    return [-(-kills * weight // sum(weights)) for weight in weights]


def print_table(tallies: Sequence[tuple[str, Tally]], seconds: float) -> None:
    """Prints what came of it."""
    print(f"{'':32}" + "".join(f"{name:>9}" for name in COLUMNS))
    for kind, tally in tallies:
        print(_row(kind, tally))
    totals = [sum(getattr(tally, name) for _, tally in tallies) for name in COLUMNS]
    print(f"{'all':32}" + "".join(f"{total:9}" for total in totals))
    print(f"{seconds:.0f} s")
    for kind, tally in tallies:
        for note in tally.notes:
            print(f"\n{kind}: {note}")


def _row(kind: str, tally: Tally) -> str:
    return f"{kind:32}" + "".join(f"{getattr(tally, name):9}" for name in COLUMNS)


def main() -> int:
    """Runs the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=KILLS, help="times that a command is ended, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="TEXT", default="", help="only faults whose name holds this text")
    options = parser.parse_args()
    budget = float(os.environ.get("ATTATTR_SOAK_SECONDS") or "inf")
    folder, started, tallies = Path(tempfile.mkdtemp(prefix="attattr-soak-")), time.monotonic(), []
    with Zygote(folder) as zygote:
        for kind, tally in soak(Bench(folder, zygote), options.kills, budget, options.seed, options.only):
            tallies.append((kind, tally))
            print(_row(kind, tally), *tally.notes, sep="\n", file=sys.stderr, flush=True)
    print_table(tallies, time.monotonic() - started)
    if all(tally.clean for _, tally in tallies):
        shutil.rmtree(folder)
        return 0
    print(f"stores are kept in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
