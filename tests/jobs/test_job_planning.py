"""What a request builds: what came from a job follows it, each run keeps its own, nothing is forgotten."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fabricate import add_run, execute, filled_store, rows
from helpers.folders import build, write_job
from helpers.older_stores import TO_0006
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attattr_batch.analysis.catalogue import Catalogue, Job
from attattr_batch.analysis.parameters import Parameter
from attattr_batch.analysis.steps import Step, steps_to_build
from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.migrate import VERSION_TABLE
from attattr_batch.store.database.sqlfile import SqlFile
from attattr_batch.store.writing.builds import Build
from attattr_batch.store.writing.passes import seal_pass
from attattr_batch.store.writing.runs import delete_run

BEFORE = "0005"  # the schema before builds were recorded by content


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sealed run of eight examples."""
    return filled_store(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def chain(folder: Path, middle: str = "SELECT m, $k AS k FROM base") -> Path:
    """Three jobs, each made from the one before, and one by itself."""
    write_job(folder, "base", "SELECT run_id, $m AS m FROM selected_runs", "param m: integer = 1; A number.")
    write_job(folder, "middle", middle, "depends: base", "param k: integer = 1; Another.")
    write_job(folder, "last", "SELECT m, k FROM middle", "depends: middle")
    return write_job(folder, "alone", "SELECT 1 AS n")


def test_what_was_built_from_a_job_follows_its_parameters(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain(folder)
    assert list(build(store, "base", folder=folder, params={"m": "2"})) == ["base"], (
        "nothing else is built yet"
    )
    build(store, "last", "alone", folder=folder, params={"k": "5"})
    assert rows(store, "FROM last") == [(2, 5)], "a job that is not asked for keeps its parameters"
    assert list(build(store, "base", folder=folder, params={"m": "2"})) == ["base"], "nothing changes"
    assert "also built" not in caplog.text

    assert list(build(store, "base", folder=folder, params={"m": "3"})) == ["base", "middle", "last"]
    assert "changes: middle, last\n" in caplog.text
    assert rows(store, "FROM last") == [(3, 5)]
    build(store, "middle", folder=folder, params={"base.m": "4"})
    assert rows(store, "FROM last") == [(4, 1)]


def test_what_could_not_follow_does_so_the_next_time(store: Store, folder: Path) -> None:
    build(store, "last", folder=chain(folder))
    chain(folder, "SELECT m, $k AS k, error('no') FROM base")
    results = build(store, "base", folder=folder, params={"m": "2"})
    assert {name: one.status for name, one in results.items()} == {
        "base": "built",
        "middle": "failed",
        "last": "skipped",
    }
    assert list(build(store, "base", folder=folder, params={"m": "2"})) == ["base", "middle", "last"]
    chain(folder)
    assert list(build(store, "base", folder=folder, params={"m": "1"})) == ["base"], "it is as it was"
    chain(folder, "SELECT m, $k AS k, error('no') FROM base")
    build(store, "base", folder=folder, params={"m": "2"})
    assert list(build(store, "base", folder=chain(folder), params={"m": "2"})) == ["base", "middle", "last"]
    assert rows(store, "FROM last") == [(2, 1)]


def test_a_job_is_built_again_for_those_runs_alone_that_it_was_built_for(store: Store, folder: Path) -> None:
    add_run(store, "second")
    chain(folder)
    build(store, "base", folder=folder)
    build(store, "last", runs=["first"], folder=folder)
    assert list(build(store, "base", runs=["second"], params={"m": "2"}, folder=folder)) == ["base"]
    assert list(build(store, "base", params={"m": "3"}, folder=folder)) == ["base", "middle", "last"]
    built_for = "SELECT runs FROM built_jobs WHERE job IN ('base', 'last') ORDER BY job"
    assert rows(store, built_for) == [('["first", "second"]',), ('["first"]',)]
    build(store, "base", runs=["first"], folder=folder)
    build(store, "base", runs=["second"], params={"m": "2"}, folder=folder)
    # Each run keeps its own.
    build(store, "middle", runs=["first"], folder=folder)
    assert rows(store, "FROM base ORDER BY run_id") == [(1, 1), (2, 2)]


def test_what_failed_two_jobs_further_down_follows_the_next_time(store: Store, folder: Path) -> None:
    write_job(chain(folder), "summit", "SELECT m FROM last", "depends: last")
    build(store, "summit", folder=folder)
    write_job(folder, "last", "SELECT m, error('no') AS k FROM middle", "depends: middle")
    results = build(store, "base", folder=folder, params={"m": "2"})
    assert [one.status for one in results.values()] == ["built", "built", "failed", "skipped"]
    chain(folder)
    assert list(build(store, "base", folder=folder, params={"m": "2"})) == ["base", "last", "summit"]
    assert rows(store, "FROM summit") == [(2,)]
    assert list(build(store, "base", folder=folder, params={"m": "2"})) == ["base"]


def test_values_that_runs_do_not_share_are_not_spread(store: Store, folder: Path) -> None:
    add_run(store, "second")
    chain(folder)
    build(store, "last", runs=["first"], params={"m": "2"}, folder=folder)
    build(store, "last", runs=["second"], folder=folder)
    with pytest.raises(UserError, match=r"base\.m\n.*2 for first, 1 for second\n(.|\n)*--run"):
        build(store, "last", folder=folder)
    assert rows(store, "FROM base ORDER BY run_id") == [(1, 2), (2, 1)]
    build(store, "last", params={"base.m": "3"}, folder=folder)
    assert rows(store, "FROM base ORDER BY run_id") == [(1, 3), (2, 3)]
    build(store, "middle", runs=["first"], params={"k": "7"}, folder=folder)
    with pytest.raises(UserError, match=r"different values of middle\.k"):
        build(store, "base", params={"m": "4"}, folder=folder)


def test_a_run_takes_no_value_that_was_tried_on_another(store: Store, folder: Path) -> None:
    chain(folder)
    build(store, "last", params={"m": "2"}, folder=folder)
    add_run(store, "second")
    build(store, "last", runs=["second"], folder=folder)
    assert rows(store, "FROM base ORDER BY run_id") == [(1, 2), (2, 1)]


def test_a_run_of_a_deleted_runs_name_has_no_builds(store: Store, folder: Path) -> None:
    add_run(store, "second")
    build(store, "last", params={"m": "2"}, folder=chain(folder))
    with store.write() as connection:
        delete_run(connection, 2)
    assert rows(store, "SELECT * FROM job_builds WHERE run_id = 2") == []
    add_run(store, "second")
    assert list(build(store, "base", runs=["second"], folder=folder)) == ["base"]


def test_what_was_built_from_other_examples_of_a_run_follows(store: Store, folder: Path) -> None:
    add_run(store, "second")
    build(store, "last", params={"m": "2"}, folder=chain(folder))
    # As a run that was completed by `--retry-errors`.
    execute(store, "INSERT INTO quarantine SELECT 2, range, 2, 'E', '', '', 1, now() FROM range(2)")
    seal_pass(store, 2)
    assert list(build(store, "base", params={"m": "2"}, folder=folder)) == ["base", "middle", "last"]
    built_for = "SELECT job, runs FROM job_runs ORDER BY job_run_id DESC LIMIT 3"
    assert rows(store, built_for) == [
        ("last", '["second"]'),
        ("middle", '["second"]'),
        ("base", '["first", "second"]'),
    ]
    assert list(build(store, "base", params={"m": "2"}, folder=folder)) == ["base"]


def test_pairs_that_were_made_for_the_other_run_follow(store: Store, folder: Path) -> None:
    add_run(store, "second")
    chain(folder)
    pairs = (
        "SELECT a.run_id AS run_a, b.run_id AS run_b, a.m - b.m AS d FROM base a, base b"
        " WHERE EXISTS (FROM selected_runs WHERE run_id IN (a.run_id, b.run_id))"
    )
    write_job(folder, "pairs", pairs, "depends: base", "agree: n_layers")
    build(store, "base", folder=folder)
    build(store, "pairs", runs=["second"], folder=folder)
    later = build(store, "base", runs=["first"], params={"m": "2"}, folder=folder)
    assert list(later) == ["base", "pairs"]
    assert (1, 2, 1) in rows(store, "FROM pairs")
    assert list(build(store, "base", runs=["first"], params={"m": "2"}, folder=folder)) == ["base"]


def test_a_value_that_is_no_longer_allowed_is_not_kept(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(store, "last", params={"m": "0"}, folder=chain(folder))
    write_job(
        folder, "base", "SELECT run_id, $m AS m FROM selected_runs", "param m: integer from 1 = 5; A number."
    )
    build(store, "last", folder=folder)
    assert rows(store, "FROM last") == [(5, 1)]
    assert "base takes the default of m" in caplog.text


def test_what_was_built_from_another_query_follows(store: Store, folder: Path) -> None:
    build(store, "last", folder=chain(folder))
    build(store, "base", folder=chain(folder, "SELECT m, $k AS k FROM base -- as before"))
    chain(folder, "SELECT m + 10 AS m, $k AS k FROM base")
    assert list(build(store, "alone", folder=folder)) == ["alone"], "nothing that is built from it"
    assert list(build(store, "base", folder=folder)) == ["base", "middle", "last"]
    assert rows(store, "FROM last") == [(11, 1)]
    assert list(build(store, "middle", folder=folder)) == ["base", "middle"]


def test_builds_of_an_earlier_release_keep_their_values_and_are_made_once_more(
    store: Store, folder: Path
) -> None:
    build(store, "last", params={"m": "2"}, folder=chain(folder))
    add_run(store, "second")  # registered after the build, of which it has no part
    execute(
        store,
        'UPDATE job_runs SET runs = \'["first", "second", "gone"]\'',
        *TO_0006,
        "ALTER TABLE job_runs ADD COLUMN query_key VARCHAR",
        "DROP TABLE job_builds",
        "ALTER TABLE runs DROP COLUMN seals",
        f"UPDATE {VERSION_TABLE} SET version_num = '{BEFORE}'",
    )
    store.migrate()
    migrated = "SELECT job, run_id, build_key, params FROM job_builds ORDER BY job"
    assert rows(store, migrated) == [
        ("base", 1, "", '{"m": 2}'),
        ("last", 1, "", "{}"),
        ("middle", 1, "", '{"k": 1}'),
    ]
    assert list(build(store, "middle", runs=["first"], folder=folder)) == ["base", "middle", "last"]
    assert rows(store, "FROM last") == [(2, 1)]
    assert list(build(store, "middle", runs=["first"], folder=folder)) == ["base", "middle"]


N_JOBS = 6

Row = tuple[object, ...]


class Tables:
    """What tables hold after requests, some interrupted: of each job and run, what its row came of."""

    def __init__(self, needs: Sequence[set[int]]):
        self.needs = {f"j{one}": {f"j{other}" for other in needed} for one, needed in enumerate(needs)}
        self.query = dict.fromkeys(self.needs, "SELECT $k")
        self.runs: dict[str, Any] = {
            name: SimpleNamespace(run_id=number, name=name, seals=1) for number, name in enumerate("ab")
        }
        self.rows: dict[tuple[str, int], Row] = {}
        self.builds: dict[tuple[str, int], Build] = {}

    def catalogue(self) -> Catalogue:
        param = Parameter("k", "integer", 0, "A number.")
        jobs = {}
        for name, needed in self.needs.items():
            file = SqlFile(name, "", self.query[name], {"depends": " ".join(sorted(needed))}, Path())
            jobs[name] = Job(file, "table", {"k": param}, None, False, (), ())
        return Catalogue(jobs, {})

    def plan(self, name: str, value: int, runs: str) -> list[Step]:
        chosen = [self.runs[run] for run in runs]
        return steps_to_build(self.catalogue(), [name], {f"{name}.k": str(value)}, chosen, self.builds)

    def build(self, step: Step) -> None:
        """Builds a job, and records it as the runner does."""
        for run in step.runs:
            of = step.job.name, run.run_id
            self.rows[of] = self.made_of(*of, step.values, self.rows)
            keys = {one: build.key for one, build in self.builds.items()}
            self.builds[of] = Build(step.job.build_key(step.values, run, keys), step.values)

    def made_of(self, name: str, run_id: int, values: Mapping[str, Any], rows: Mapping[Any, Row]) -> Row:
        """A job's row, built with these values from these rows of others."""
        (seals,) = (run.seals for run in self.runs.values() if run.run_id == run_id)
        return (values["k"], self.query[name], seals, {one: rows[one, run_id] for one in self.needs[name]})

    def fresh(self) -> dict[tuple[str, int], Row]:
        """The rows, if all were built now with the values they were last built with."""
        fresh: dict[tuple[str, int], Row] = {}
        for name in self.needs:  # each comes after those it needs
            for job, run_id in self.builds:
                if job == name:
                    fresh[job, run_id] = self.made_of(job, run_id, self.builds[job, run_id].params, fresh)
        return fresh

    def fresh_keys(self) -> dict[tuple[str, int], str]:
        """The keys, if all were built now."""
        keys: dict[tuple[str, int], str] = {}
        for name, job in self.catalogue().jobs.items():
            for run in self.runs.values():
                if (name, run.run_id) in self.builds:
                    keys[name, run.run_id] = job.build_key(self.builds[name, run.run_id].params, run, keys)
        return keys

    def below(self, names: set[str]) -> set[str]:
        """These jobs, and everything that is built from them."""
        more = {one for one, needed in self.needs.items() if needed & names} - names
        return self.below(names | more) if more else names


@st.composite
def events(draw: st.DrawFn) -> tuple[str, tuple[Any, ...]]:
    """A request, perhaps one that breaks off; other examples of a run; or another query of a job."""
    jobs = st.sampled_from([f"j{one}" for one in range(N_JOBS)])
    job = draw(jobs)
    kind = draw(st.sampled_from(["request", "request", "request", "seal", "query"]))
    if kind == "seal":
        return kind, (draw(st.sampled_from("ab")),)
    if kind == "query":
        return kind, (job,)
    # Jobs that fail; true: after its earlier rows were replaced, as a pass may.
    fails = draw(st.dictionaries(jobs, st.booleans(), max_size=2))
    stop = draw(st.integers(1, N_JOBS) | st.just(N_JOBS))
    return kind, (job, draw(st.integers(0, 2)), draw(st.sampled_from(["a", "b", "ab"])), fails, stop)


def request(
    tables: Tables, name: str, value: int, runs: str, fails: Mapping[str, bool], stop: int
) -> list[Step]:
    """Builds what a request asks for, as far as it goes; returns the whole plan if it went to its end."""
    try:
        plan = tables.plan(name, value, runs)
    except UserError:
        return []  # the runs were built with different values
    broken: set[str] = set()
    for step in plan[:stop]:
        if broken & tables.needs[step.job.name]:
            broken.add(step.job.name)
        elif step.job.name in fails:
            broken.add(step.job.name)
            for run in step.runs:
                of = step.job.name, run.run_id
                if fails[step.job.name] and of in tables.builds:
                    tables.rows[of] = (object(),)
                    tables.builds[of] = Build(uuid.uuid4().hex, tables.builds[of].params)
        else:
            tables.build(step)
    return [] if broken or stop < len(plan) else plan


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(*(st.sets(st.integers(0, max(0, one - 1)), max_size=2) for one in range(N_JOBS))),
    st.lists(events(), max_size=14),
)
def test_after_any_request_what_is_below_fits_and_keys_tell_what_would_be_built_otherwise(
    needs: Sequence[set[int]], happened: Sequence[tuple[str, tuple[Any, ...]]]
) -> None:
    tables = Tables([set(), *needs[1:]])
    for number, (kind, event) in enumerate(happened):
        if kind == "seal":
            tables.runs[event[0]].seals += 1
        elif kind == "query":
            tables.query[event[0]] += f" -- {number}"
        elif plan := request(tables, *event):
            name, value, runs, *_ = event
            asked = [job.name for job in tables.catalogue().with_dependencies([name])]
            below, chosen = tables.below(set(asked)), {run.run_id for run in plan[0].runs}
            for of, row in tables.rows.items():
                if of[0] in below and of[1] in chosen:
                    assert row == tables.made_of(*of, tables.builds[of].params, tables.rows)
            assert [step.job.name for step in tables.plan(name, value, runs)] == asked, "nothing twice"
        fresh, keys = tables.fresh(), tables.fresh_keys()
        for of, row in tables.rows.items():
            assert (tables.builds[of].key == keys[of]) == (row == fresh[of])
