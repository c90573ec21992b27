"""The short form of the fault matrix (`make soak` is the whole of it): every kind of fault, a few times."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers.fabricate import filled_store, rows
from helpers.scenarios import EXAMPLES, SCENARIOS, Bench, Place, Scenario, scenario
from helpers.trials import Tally, at, at_random, disturb, finish
from helpers.troubles import TROUBLES, Trouble
from helpers.zygote import Zygote

from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.reading.console import query

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    with Zygote(folder) as zygote:
        yield Bench(folder, zygote)


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda one: one.name)
def test_a_command_that_is_killed_and_given_again(bench: Bench, one: Scenario) -> None:
    """Killed at a place of its own, then at a random one while it makes good for the first."""
    chance, tally = random.Random(one.name), Tally()
    _, seconds = bench.undisturbed(one)
    place = one.places[0]
    faults = [at(place, "after", 1), at_random(chance, one, seconds)]
    disturb(bench, one, faults, tally)
    assert tally.faults >= 1
    assert tally.clean, tally.notes


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_a_run_says_that_is_told_to_end(bench: Bench, how: signal.Signals) -> None:
    one, folder, tally = scenario("run"), bench.new_trial("blank"), Tally()
    point = at(Place("commit a chunk", "attattr_batch.runtime.driver:commit_chunks"), "after", 2, how).point
    ended = bench.zygote.run(bench.arguments(one, folder), bench.conditions(one, point=point))
    assert ended.code == 130, ended.said
    message = "interrupted; what is committed is kept, and the same command goes on from there"
    assert ended.said.splitlines()[-1] == message
    assert "Traceback" not in ended.said
    ((committed,),) = rows(Store(folder / "store.duckdb"), "SELECT count(*) FROM ledger")
    assert 0 < committed < EXAMPLES
    assert "running" in bench.zygote.run(["status", "--db", str(folder / "store.duckdb")]).said
    finish(bench, one, folder, tally, "told to end")
    assert tally.clean, tally.notes


@pytest.mark.parametrize(("name", "trouble"), [(name, one) for name, (one, _) in TROUBLES.items()])
def test_other_troubles(bench: Bench, name: str, trouble: Trouble) -> None:
    tally = Tally()
    trouble(bench, random.Random(name), tally)
    assert tally.trials >= 1
    assert tally.clean, tally.notes


def test_a_console_child_that_is_killed(tmp_path: Path) -> None:
    """The one who asked is told; the next question is answered."""
    path = filled_store(tmp_path).path

    def kill_child() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):  # it may end, or wait to be reaped
                    if "console_child" in " ".join(child.cmdline()):
                        time.sleep(0.3)
                        child.kill()
                        return

    killer = threading.Thread(target=kill_child)
    killer.start()
    with pytest.raises(UserError, match="needs more memory|failed"):
        query(path, "SELECT count(*) FROM range(100000000) AS a, range(1000) AS b", timeout_s=20)
    killer.join()
    assert query(path, "SELECT count(*) FROM runs").rows == [(1,)]
