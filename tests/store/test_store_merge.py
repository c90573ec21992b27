"""Merging parts of a run: every example once, whatever is given again, missing, mixed up or interrupted."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.fabricate import INTEGRITY, commit, contents, new_store, record, rows, run_tables

from attattr_batch.analysis.audits import run_audits
from attattr_batch.errors import StoreError, UserError
from attattr_batch.identity import run_key
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import metadata
from attattr_batch.store.writing import merge
from attattr_batch.store.writing.merge import Merged, find_parts, merge_parts
from attattr_batch.store.writing.passes import (
    QuarantinedExample,
    quarantine_examples,
    register_pass,
    seal_pass,
)
from attattr_batch.store.writing.runs import register_run

N = 14
PARTS = 3
WHOLE = {"task": "sst2", "tolerance": 0.001}


def fill(folder: Path, identity: dict[str, Any], ids: range, **more: Any) -> Store:
    """A store with one run of these examples; the `bad` ones are quarantined, some `left` pending."""
    folder.mkdir()
    store = Store(folder / "attattr.duckdb", timeout_s=5.0)
    store.path.write_bytes(_filled(json.dumps(identity), ids, **more))
    return store


@functools.cache
def _filled(document: str, ids: range, bad: tuple[int, ...] = (), left: tuple[int, ...] = ()) -> bytes:
    identity = json.loads(document)
    key = run_key(identity)
    one = record("given", run_key=key, identity=identity, n_examples=len(ids))
    one["config"] = {"task": "sst2", "name": None, "part": identity.get("part", {}).get("part")}
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder))
        with store.write() as connection:
            run_id = register_run(connection, one, run_tables(ids))
            pass_id = register_pass(connection, run_id, "attribute", key, {}, len(ids))
        commit(store, pass_id, [one for one in ids if one not in {*bad, *left}])
        failed = [QuarantinedExample(example_id=one, error="Bad", message="bad") for one in bad]
        quarantine_examples(store, pass_id, failed)
        if left:
            store.checkpoint()
        else:
            seal_pass(store, pass_id)
        return store.path.read_bytes()


@pytest.fixture
def whole(tmp_path: Path) -> Store:
    """What one run without parts leaves."""
    return fill(tmp_path / "direct", WHOLE, range(N))


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """An empty store."""
    (tmp_path / "target").mkdir()
    return new_store(tmp_path / "target")


@pytest.fixture
def nowhere(tmp_path: Path) -> Store:
    """A store that is not there yet."""
    return Store(tmp_path / "whole.duckdb", create=True, timeout_s=5.0)


def part(folder: Path, number: int, of: int = PARTS, **more: Any) -> Store:
    """A store with a part, in a folder of its own below this one."""
    identity = WHOLE | more.pop("identity", {})
    identity["part"] = {"part": f"{number}/{of}", "n_examples": N, "tokens": f"{number}/{of}"}
    return fill(folder / f"p{number}-{of}", identity, range(number, N, of), **more)


def merged(target: Store, *parts: Store) -> Merged:
    return merge_parts(find_parts(parts), target)


def facts(store: Store) -> dict[str, Any]:
    """What must not depend on the way: every row, less times, and the chunk that an example came in."""
    found = contents(store)
    left_out = {"meta", "job_runs", "job_builds", "passes", "vocabulary"}
    kept = {}
    for name, table in metadata.tables.items():
        places = [n for n, column in enumerate(table.columns) if not column.info["volatile"]]
        places = [n for n in places if list(table.columns)[n].name not in ("name", "config", "seals")]
        if name not in left_out:
            kept[name] = [tuple(row[n] for n in places) for row in found[name]]
    return kept


def assert_good(store: Store) -> None:
    results, _ = run_audits(store)
    assert [one.name for one in results if not one.passed] == []


def test_the_merged_run_is_the_one_without_parts(tmp_path: Path, whole: Store, target: Store) -> None:
    parts = [part(tmp_path, number) for number in range(PARTS)]
    done = merged(target, *parts)
    assert (done.committed, done.newly_committed, done.missing) == (N, [5, 5, 4], {})
    assert facts(target) == facts(whole)
    assert rows(target, "SELECT name, run_key, status, seals, n_examples FROM runs") == [
        ("sst2-tiny", run_key(WHOLE), "sealed", 1, N)
    ]
    assert rows(target, "SELECT pass_key, pass_status, n_wanted FROM passes") == [
        (run_key(WHOLE), "sealed", N)
    ]
    assert rows(target, "SELECT count(*), count(DISTINCT token_id) FROM vocabulary") == [(8, 8)]
    assert rows(target, "SELECT config->>'part' FROM runs") == [(None,)]
    assert_good(target)


def test_a_part_twice_or_again_later_changes_nothing(tmp_path: Path, target: Store) -> None:
    parts = [part(tmp_path, number) for number in range(PARTS)]
    assert merged(target, parts[0], parts[0]).newly_committed == [5, 0]
    merged(target, *parts)
    before = contents(target)
    assert merged(target, parts[1]).newly_committed == [0]
    assert contents(target) == before


def test_missing_parts_are_named_and_merged_later(tmp_path: Path, whole: Store, target: Store) -> None:
    done = merged(target, part(tmp_path, 1))
    assert (done.committed, done.missing) == (5, {"0/3": 5, "2/3": 4})
    assert rows(target, "SELECT status, n_examples FROM runs") == [("running", N)]
    assert_good(target)
    assert merged(target, part(tmp_path, 2)).missing == {"0/3": 5}
    assert merged(target, part(tmp_path, 0)).missing == {}
    assert facts(target) == facts(whole)


def test_a_part_that_is_not_finished_gives_what_it_has(tmp_path: Path, whole: Store, target: Store) -> None:
    unfinished = part(tmp_path, 0, left=(3, 9))
    assert merged(target, unfinished, part(tmp_path, 1), part(tmp_path, 2)).missing == {"0/3": 2}
    assert_good(target)
    commit(unfinished, 1, [3, 9])
    done = merged(target, unfinished)
    assert (done.newly_committed, done.missing) == ([2], {})
    assert facts(target) == facts(whole)


def test_parts_of_different_sizes_and_overlapping_ones(tmp_path: Path, whole: Store, target: Store) -> None:
    given = [part(tmp_path, number, of) for number, of in ((0, 2), (0, 3), (1, 4), (2, 4))]
    done = merged(target, *given)
    assert (done.newly_committed, done.missing) == ([7, 2, 3, 0], {"3/4": 2})
    assert merged(target, part(tmp_path, 3, 4)).missing == {}
    assert facts(target) == facts(whole)


def test_quarantined_examples_stay_so_until_a_part_has_them(
    tmp_path: Path, whole: Store, target: Store
) -> None:
    done = merged(target, part(tmp_path, 0, bad=(6,)), part(tmp_path, 1), part(tmp_path, 2))
    assert (done.committed, done.quarantined, done.missing) == (N - 1, 1, {})
    assert rows(target, "SELECT example_id, run_id, error FROM quarantine") == [(6, 1, "Bad")]
    assert rows(target, "SELECT status, seals FROM runs") == [("sealed", 1)]
    assert_good(target)
    for name in ("mended", "again"):
        (tmp_path / name).mkdir()
    done = merged(target, part(tmp_path / "mended", 0))
    assert (done.newly_committed, done.quarantined) == ([1], 0)
    assert rows(target, "SELECT status, seals FROM runs") == [("sealed", 2)], "what was built is built again"
    assert facts(target) == facts(whole)
    merged(target, part(tmp_path / "again", 0, bad=(6,)))
    assert facts(target) == facts(whole), "what is committed stays so"


def test_a_merged_run_stands_beside_others(tmp_path: Path, target: Store) -> None:
    merged(target, *(part(tmp_path, number) for number in range(PARTS)))
    (tmp_path / "other").mkdir()
    others = [part(tmp_path / "other", number, identity={"tolerance": 0.01}) for number in range(PARTS)]
    merged(target, *others)
    names = rows(target, "SELECT name, status FROM runs ORDER BY run_id")
    assert names == [
        ("sst2-tiny", "sealed"),
        (f"sst2-tiny-{run_key(WHOLE | {'tolerance': 0.01})[:6]}", "sealed"),
    ]
    assert_good(target)


def test_parts_of_different_runs(tmp_path: Path, target: Store, nowhere: Store) -> None:
    first, other = part(tmp_path, 0), part(tmp_path, 1, identity={"tolerance": 0.01})
    with pytest.raises(UserError, match=r"different runs(.|\n)*differ in tolerance"):
        merged(nowhere, first, other)
    assert not nowhere.path.exists()
    merged(target, first)
    before = contents(target)
    with pytest.raises(UserError, match=r"still waits for parts of another run(.|\n)*5 of 14 examples"):
        merged(target, other)
    assert contents(target) == before


def test_what_is_no_part(tmp_path: Path, whole: Store, nowhere: Store) -> None:
    with pytest.raises(UserError, match="no part of one"):
        merged(nowhere, part(tmp_path, 0), whole)
    with pytest.raises(UserError, match="no part of a run"):
        merged(nowhere, new_store(tmp_path))
    with pytest.raises(StoreError, match="there is no database yet"):
        merged(nowhere, part(tmp_path, 1), Store(tmp_path / "none.duckdb"))
    with part(tmp_path, 2).write() as connection:
        connection.exec_driver_sql("UPDATE runs SET run_key = 'of another release'")
    with pytest.raises(UserError, match="numbers mean something else"):
        merged(nowhere, Store(tmp_path / "p2-3" / "attattr.duckdb"))
    assert not nowhere.path.exists()


STEPS = ("register_run", "register_pass", "_claim", "reopen_pass", "_copy_facts", "release", "seal_pass")


@pytest.mark.parametrize("step", STEPS)
def test_a_merge_that_fails_anywhere_is_given_again(
    tmp_path: Path, whole: Store, target: Store, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some call of each step: each part is there whole or not at all."""
    parts = [part(tmp_path, number) for number in range(PARTS)]
    done, most = getattr(merge, step), 7 * PARTS if step == "_copy_facts" else PARTS
    for call in random.Random(step).sample(range(1, most + 1), 2):
        left = [call]

        def failing(*given: Any, left: list[int] = left) -> Any:
            found = done(*given)
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("ended")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(merge, step, failing)
            try:
                merged(target, *parts)
            except RuntimeError:
                assert rows(target, f"SELECT ok FROM {INTEGRITY}") in ([], [(True,)])
                counts = rows(target, "SELECT count(*) FROM ledger")
                assert counts in ([(0,)], [(5,)], [(10,)], [(N,)])
    merged(target, *parts)
    assert facts(target) == facts(whole)
