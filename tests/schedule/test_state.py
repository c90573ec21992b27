"""The schedules file: names, and files of earlier releases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from helpers.scheduling import Bench

from attattr_batch.errors import UserError
from attattr_batch.schedule.state import TickOutcome

EARLIER = {
    1: "started_at TEXT, finished_at TEXT",
    2: "ran TEXT NOT NULL",
}
TIMES = {
    1: ("2026-01-01T02:00:01+00:00", "2026-01-01T02:30:00+00:00"),
    2: ('[["2026-01-01T02:00:01+00:00", "2026-01-01T02:30:00+00:00"]]',),
}


def make_earlier(bench: Bench, version: int, **settings: object) -> None:
    """Writes a file as that version had it: a schedule, a tick that is done, and others that go."""
    spec = bench.folder / "night.yaml"
    spec.write_text("{task: sst2, model: bundled}")
    gone = {"missed": "all", "overlap": "queue", "jitter_s": 60, "notify_url": None, "notify_command": None}
    values = {
        **{"name": "nightly", "cron": "0 2 * * *", "spec": str(spec), "db": "store.duckdb"},
        **{"created_at": "2026-01-01T00:00:00Z", "jobs": ["all"], **gone, **settings},
    }
    done = json.dumps({"message": "m", "runs": [7], "findings": ["f"]})
    with closing(sqlite3.connect(bench.state.path)) as connection, connection:
        connection.execute("CREATE TABLE schedules (name TEXT PRIMARY KEY, settings TEXT NOT NULL)")
        connection.execute(
            "CREATE TABLE ticks (schedule TEXT NOT NULL, tick TEXT NOT NULL, status TEXT NOT NULL,"
            " attempts INTEGER NOT NULL, resolved TEXT, outcome TEXT, "
            f"{EARLIER[version]}, PRIMARY KEY (schedule, tick))"
        )
        connection.execute("INSERT INTO schedules VALUES ('nightly', ?)", [json.dumps(values)])
        ticks: list[Sequence[object]] = [
            ("nightly", "20260101T020000Z", "done", 1, None, done),
            ("nightly", "20260102T020000Z", "skipped", 0, None, '{"message": "missed"}'),
            ("removed", "20260101T020000Z", "done", 1, None, done),
        ]
        marks = ", ".join("?" * (6 + len(TIMES[version])))
        connection.executemany(
            f"INSERT INTO ticks VALUES ({marks})", [(*tick, *TIMES[version]) for tick in ticks]
        )
        connection.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("version", EARLIER)
def test_a_file_of_an_earlier_version_goes_on(tmp_path: Path, version: int) -> None:
    bench = Bench(tmp_path)
    make_earlier(bench, version)
    with bench.state.transaction() as transaction:
        (schedule,) = transaction.schedules()
        (row,) = transaction.ticks("nightly")
        assert transaction.ticks("removed") == []
    assert (schedule.jobs, schedule.notify_command) == (("all",), None)
    assert (row.status, row.outcome) == ("done", TickOutcome("m", [7], ["f"]))
    bench.clock.forward(days=1, hours=3)
    bench.run_due()
    assert bench.statuses() == [("20260101T0200", "done"), ("20260102T0200", "done")]
    assert bench.runs.previous == [(7,)]


@pytest.mark.parametrize("version", EARLIER)
def test_curl_calls_the_webhook_of_an_earlier_version(tmp_path: Path, version: int) -> None:
    url = "http://host/it's?a=1&b=$HOME"
    bench = Bench(tmp_path)
    make_earlier(bench, version, notify_url=url)
    (tmp_path / "curl").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path / 'arguments'}'\n")
    (tmp_path / "curl").chmod(0o700)
    with bench.state.transaction() as transaction:
        (schedule,) = transaction.schedules()
    assert schedule.notify_command is not None
    bench.runs.findings = ("drift",)
    bench.clock.forward(days=1, hours=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=":")
        bench.run_due()
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments == ["-fsS", "-H", "Content-Type: application/json", "-d", "@-", url.replace("'", "%27")]


@pytest.mark.parametrize("version", EARLIER)
def test_a_command_of_an_earlier_version_stays(tmp_path: Path, version: int) -> None:
    bench = Bench(tmp_path)
    make_earlier(bench, version, notify_url="http://host/", notify_command="mail me")
    with bench.state.transaction() as transaction:
        (schedule,) = transaction.schedules()
    assert schedule.notify_command == "mail me"


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add()
    with pytest.raises(UserError, match="there is a schedule of this name"):
        bench.add()


@pytest.mark.parametrize("version", [0, 4])
def test_a_file_of_another_program_or_release_is_refused_untouched(tmp_path: Path, version: int) -> None:
    bench = Bench(tmp_path)
    with closing(sqlite3.connect(bench.state.path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    before = bench.state.path.read_bytes()
    with pytest.raises(UserError, match=f"not one of ours(.|\n)*version {version}"):
        bench.add()
    assert bench.state.path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.state.path.write_bytes(b"no database at all, but long enough to be read as a header" * 4)
    before = bench.state.path.read_bytes()
    with pytest.raises(UserError, match="the schedules file cannot be used"):
        bench.add()
    assert bench.state.path.read_bytes() == before
