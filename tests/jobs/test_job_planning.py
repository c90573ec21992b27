"""What a request builds: what came from a job follows it, each run keeps its own, nothing is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fabricate import add_run, execute, filled_store, rows
from folders import build, write_job
from hypothesis import given, settings
from hypothesis import strategies as st

from attattr_batch.analysis.catalogue import Catalogue, Job
from attattr_batch.analysis.parameters import Parameter
from attattr_batch.analysis.steps import steps_to_build
from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import SqlFile
from attattr_batch.store.writing.builds import Build


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
    assert "also built, because base changes: middle, last" in caplog.text
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
    build(store, "base", folder=folder, params={"m": "1"})
    assert list(build(store, "base", folder=folder)) == ["base"], "they are of what is there again"
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
    build(store, "last", params={"m": "2"}, folder=chain(folder))
    # As a run of that name that is registered afterwards.
    execute(store, "UPDATE runs SET created_at = now()")
    assert list(build(store, "base", params={"m": "3"}, folder=folder)) == ["base"]


def test_what_was_built_from_other_examples_of_a_run_follows(store: Store, folder: Path) -> None:
    add_run(store, "second")
    build(store, "last", params={"m": "2"}, folder=chain(folder))
    # As a run that was completed by `--retry-errors`.
    execute(store, "UPDATE runs SET sealed_at = now() WHERE name = 'second'")
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
    assert list(build(store, "base", folder=folder)) == ["base"], "middle is not looked at"
    assert list(build(store, "middle", folder=folder)) == ["base", "middle", "last"]
    assert rows(store, "FROM last") == [(11, 1)]
    assert list(build(store, "middle", folder=folder)) == ["base", "middle"]
    execute(store, "UPDATE job_runs SET query_key = NULL")  # as in a store of an earlier release
    assert list(build(store, "base", folder=folder)) == ["base", "middle", "last"]
    assert list(build(store, "base", folder=folder)) == ["base"]


N_JOBS = 6


class Tables:
    """What tables would hold after requests, some interrupted: of each run, what its row came of."""

    def __init__(self, needs: Sequence[set[int]]):
        self.needs = {f"j{one}": {f"j{other}" for other in needed} for one, needed in enumerate(needs)}
        self.rows: dict[tuple[str, str], object] = {}
        self.builds: dict[str, dict[str, list[Build]]] = {}
        self.number = 0

    def catalogue(self) -> Catalogue:
        param = Parameter("k", "integer", 0, "A number.")
        jobs = {}
        for name, needed in self.needs.items():
            file = SqlFile(name, "", "SELECT $k", {"depends": " ".join(sorted(needed))}, Path())
            jobs[name] = Job(file, "table", {"k": param}, None, False, (), ())
        return Catalogue(jobs, {})

    def request(self, name: str, value: int, runs: Sequence[str], stop: int) -> bool:
        """Builds up to `stop` jobs of a request; says whether that was all."""
        try:
            plan = steps_to_build(self.catalogue(), [name], {f"{name}.k": str(value)}, runs, self.builds)
        except UserError:
            return False  # the runs were built with different values
        for step in plan[:stop]:
            self.number += 1
            build = Build(self.number, step.values, step.job.query_key)
            for run in step.runs:
                came_of = {one: self.rows[one, run] for one in step.job.file.depends}
                self.rows[step.job.name, run] = (step.values["k"], came_of)
                self.builds.setdefault(step.job.name, {}).setdefault(run, []).append(build)
        return stop >= len(plan)

    def stale(self, run: str) -> set[str]:
        """Jobs whose rows did not come of the present rows of what they are built from."""
        return {
            name
            for (name, of), row in self.rows.items()
            if of == run and row[1] != {one: self.rows[one, run] for one in self.needs[name]}  # type: ignore[index]
        }

    def below(self, name: str) -> set[str]:
        """Everything that is built from a job."""
        found = {one for one, needed in self.needs.items() if name in needed}
        return found.union(*(self.below(one) for one in found)) if found else found


@settings(max_examples=200)
@given(
    st.tuples(*(st.sets(st.integers(0, max(0, one - 1)), max_size=2) for one in range(N_JOBS))),
    st.lists(
        st.tuples(
            st.integers(0, N_JOBS - 1),
            st.integers(0, 2),
            st.sampled_from([("a",), ("b",), ("a", "b")]),
            st.integers(1, N_JOBS) | st.just(N_JOBS),
        ),
        max_size=12,
    ),
)
def test_whatever_was_interrupted_what_is_below_a_built_job_follows_once(
    needs: Sequence[set[int]], requests: Sequence[tuple[int, int, tuple[str, ...], int]]
) -> None:
    tables = Tables([set(), *needs[1:]])
    for number, value, runs, stop in requests:
        name = f"j{number}"
        if tables.request(name, value, runs, stop):
            for run in runs:
                assert not tables.stale(run) & {name, *tables.below(name)}
            catalogue = tables.catalogue()
            again = steps_to_build(catalogue, [name], {f"{name}.k": str(value)}, runs, tables.builds)
            assert [step.job for step in again] == catalogue.with_dependencies([name])
