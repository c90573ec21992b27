from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.fabricate import (
    INTEGRITY,
    VOCABULARY,
    commit,
    contents,
    filled_store,
    new_store,
    record,
    register,
    rows,
    run_tables,
)

from attattr_batch.errors import BadFactsError, StoreError, UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import (
    QuarantinedExample,
    pending_ids,
    quarantine_examples,
    register_pass,
    retry_quarantined,
    seal_pass,
)
from attattr_batch.store.writing.runs import delete_run, find_run, list_runs, register_run, resolve_run


def test_a_run_is_stored_as_given(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    config = {"task": "sst2", "note": 'quotes " and ünïcode 😀'}
    run_id, _ = register(
        store, 3, config=config, labels=["0", "b'c", "d"], fixed_nodes=4, quadrature="midpoint"
    )
    with store.read() as connection:
        run = resolve_run(connection, "first")
    assert (run.run_id, run.status, run.labels, run.fixed_nodes) == (run_id, "running", ["0", "b'c", "d"], 4)
    assert run.tolerance == 1e-3
    assert run.created_at.tzinfo is not None
    assert rows(store, "SELECT config->>'note' FROM runs") == [(config["note"],)]
    assert rows(store, "SELECT example_id, text_a, text_b, gold FROM examples WHERE example_id = 1") == [
        (1, "a film number 1", None, 1)
    ]
    tokens = (
        "SELECT position, token, segment FROM tokens JOIN vocabulary USING (token_id) WHERE example_id = 2"
    )
    assert rows(store, f"{tokens} ORDER BY position") == [
        (0, "[CLS]", None),
        (1, "a", 0),
        (2, "film", 0),
        (3, "good", 0),
        (4, "[SEP]", None),
    ]


def test_any_text_survives(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    texts = ["", "😀 emoji", "x" * 10_000, "a\0b", "line\nbreak\ttab", "'; DROP TABLE runs --"]
    examples = {"example_id": range(len(texts)), "text_a": texts, "text_b": texts}
    with store.write() as connection:
        register_run(connection, record(), {"examples": pa.table(examples)})
    found = rows(store, "SELECT text_a, text_b, gold FROM examples ORDER BY example_id")
    assert found == [(text, text, None) for text in texts]


def test_the_same_identity_is_the_same_run(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    first, pass_id = register(store, 4, "first", run_key="k" * 64)
    again, pass_again = register(store, 4, "renamed", run_key="k" * 64)
    assert (again, pass_again) == (first, pass_id)
    assert rows(store, "SELECT name FROM runs") == [("first",)]
    assert rows(store, "SELECT count(*) FROM examples") == [(4,)]
    with store.read() as connection:
        found = find_run(connection, "k" * 64)
        assert found is not None and found.run_id == first
        assert find_run(connection, "other") is None


def test_a_name_belongs_to_one_identity(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    register(store, 2, "first")
    with pytest.raises(UserError, match="already has this name") as caught:
        register(store, 2, "first", run_key="f" * 64)
    assert "attattr rm first" in str(caught.value)
    with pytest.raises(UserError, match="must not be a number"):
        register(store, 2, "12")
    assert rows(store, "SELECT run_id, name FROM runs") == [(1, "first")]


def test_runs_of_one_tokenizer_share_its_vocabulary(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    register(store, 2, "first")
    register(store, 2, "second")
    register(store, 2, "third", tokenizer_key="another")
    counts = rows(store, "SELECT tokenizer_key, count(*) FROM vocabulary GROUP BY 1 ORDER BY 1")
    assert counts == [("another", len(VOCABULARY)), ("tiny-vocabulary", len(VOCABULARY))]


def test_bad_run_data_is_refused_and_nothing_stored(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    examples = run_tables([0])["examples"]
    for bad, message in (
        ({"examples": examples.drop_columns("text_a")}, "examples.text_a: the column is missing"),
        ({"examples": examples.append_column("colour", pa.array(["red"]))}, "unknown column 'colour'"),
        ({"head_scores": examples}, "unknown table of run data"),
    ):
        with (
            pytest.raises((BadFactsError, UserError), match=message),
            store.write() as connection,
        ):
            register_run(connection, record(), bad)
    assert rows(store, "SELECT count(*) FROM runs") == [(0,)]


def test_runs_are_found_by_name_or_id(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    register(store, 2, "sst2-dev")
    register(store, 2, "mnli-dev")
    with store.read() as connection:
        assert resolve_run(connection, "mnli-dev").run_id == 2
        assert resolve_run(connection, 1).name == "sst2-dev"
        assert resolve_run(connection, "1").name == "sst2-dev"
        assert [run.name for run in list_runs(connection)] == ["sst2-dev", "mnli-dev"]
        with pytest.raises(UserError, match="no such run") as caught:
            resolve_run(connection, "sst2-dve")
    assert not isinstance(caught.value, StoreError), "the file is good"
    assert "did you mean 'sst2-dev'?" in str(caught.value)
    assert "mnli-dev (2)" in str(caught.value)


def test_no_runs_at_all(tmp_path: Path) -> None:
    with new_store(tmp_path).read() as connection, pytest.raises(UserError, match="there are no runs yet"):
        resolve_run(connection, "x")


def pending(store: Store, pass_id: int, among: Sequence[int] = range(8)) -> list[int]:
    with store.read() as connection:
        return pending_ids(connection, pass_id, among)


def test_pending_is_what_is_neither_committed_nor_quarantined(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    run_id, pass_id = register(store, 8)
    register(store, 8, "second")
    with store.write() as connection:
        other = register_pass(connection, run_id, "masked_answers", "heads", {"k": 1}, 4)
    assert pending(store, pass_id) == list(range(8))
    commit(store, pass_id, [6, 1])
    quarantine_examples(store, pass_id, [QuarantinedExample(example_id=3, error="ValueError", message="no")])
    assert pending(store, pass_id) == [0, 2, 4, 5, 7]
    assert pending(store, pass_id, [1, 2, 3, 4]) == [2, 4]
    assert pending(store, other, [1, 2, 3, 4]) == [1, 2, 3, 4]
    with store.write() as connection:
        assert retry_quarantined(connection, pass_id) == 1
    assert pending(store, pass_id) == [0, 2, 3, 4, 5, 7]


def test_a_pass_is_sealed_when_every_example_is_accounted_for(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 8)
    commit(store, pass_id, range(7))
    with pytest.raises(StoreError, match="not finished") as caught:
        seal_pass(store, pass_id)
    assert "7 committed and 0 quarantined of 8" in str(caught.value)
    quarantine_examples(store, pass_id, [QuarantinedExample(example_id=7, error="ValueError", message="no")])
    seal_pass(store, pass_id)
    states = "SELECT p.pass_status, r.status, p.finished_at = r.sealed_at FROM passes p, runs r"
    assert rows(store, states) == [("sealed", "sealed", True)]
    assert not store.path.with_name("attattr.duckdb.wal").exists(), "sealing ends with a checkpoint"


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    before = rows(store, "SELECT * FROM runs")
    seal_pass(store, 1)
    assert rows(store, "SELECT * FROM runs") == before


def test_retrying_failures_reopens_a_sealed_run(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 2)
    commit(store, pass_id, [0])
    quarantine_examples(store, pass_id, [QuarantinedExample(example_id=1, error="ValueError", message="no")])
    seal_pass(store, pass_id)
    with store.write() as connection:
        assert retry_quarantined(connection, pass_id, hopeless=[1]) == 0
    assert rows(store, "SELECT r.status FROM runs r") == [("sealed",)]
    with store.write() as connection:
        assert retry_quarantined(connection, pass_id) == 1
    assert rows(store, "SELECT r.status, p.pass_status, r.sealed_at FROM runs r, passes p") == [
        ("running", "running", None)
    ]
    commit(store, pass_id, [1])
    seal_pass(store, pass_id)
    with store.write() as connection:
        assert retry_quarantined(connection, pass_id) == 0
    assert rows(store, "SELECT r.status FROM runs r") == [("sealed",)]


def test_deleting_a_run_leaves_the_others_untouched(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "second")
    commit(store, pass_id, range(4))
    with store.write() as connection:
        connection.exec_driver_sql("CREATE TABLE made_by_a_job AS SELECT unnest([1, 2]) AS run_id")
        connection.exec_driver_sql("CREATE TABLE pairs AS SELECT 2 AS run_a, unnest([1, 2]) AS run_b")
    before = contents(store, "run_id = 2")
    with store.write() as connection:
        delete_run(connection, 1)
    assert contents(store) == before
    assert rows(store, "SELECT run_id FROM made_by_a_job") == [(2,)]
    assert rows(store, "SELECT * FROM pairs") == [(2, 2)]
    assert rows(store, "SELECT count(*) FROM vocabulary") == [(len(VOCABULARY),)]


def test_ids_never_come_back(tmp_path: Path) -> None:
    """A writer that still works for a deleted run must not hit the next one."""
    store = filled_store(tmp_path)
    with store.write() as connection:
        delete_run(connection, 1)
    with pytest.raises(StoreError, match="was deleted"):
        commit(store, 1, [0])
    assert register(store, 2, "next") == (2, 2)
    with pytest.raises(StoreError, match="was deleted"):
        commit(store, 1, [0])


def test_a_deleted_run_can_be_made_again(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    with store.write() as connection:
        delete_run(connection, 1)
    _, pass_id = register(store, 8)
    commit(store, pass_id, range(8))
    seal_pass(store, pass_id)
    assert rows(store, f"SELECT run_id, committed, ok FROM {INTEGRITY}") == [(2, 8, True)]
