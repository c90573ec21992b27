from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from helpers.fabricate import (
    INTEGRITY,
    changed,
    chunk,
    commit,
    contents,
    facts,
    new_store,
    register,
    registered_store,
    rows,
    with_value,
)
from sqlalchemy import Connection

from attattr_batch.errors import BadFactsError
from attattr_batch.store.database.connection import Store, arrow_rows, raw
from attattr_batch.store.database.tables import tables_written_by
from attattr_batch.store.writing.ingest import commit_chunk, commit_chunks
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples
from attattr_batch.store.writing.rows import insert_rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a run of 8 examples; the pass has id 1."""
    return registered_store(tmp_path)


def test_a_chunk_is_stored_as_given(store: Store) -> None:
    assert commit(store, 1, [3, 0]) == [0, 3]
    for name, table in facts([0, 3]).items():
        physical = tables_written_by("chunk")[name]
        columns = [column.name for column in physical.columns if column.name != "run_id"]
        got = rows(store, f"SELECT {', '.join(columns)} FROM {physical.name} WHERE run_id = 1")
        wanted = list(zip(*(_float32(table[column]) for column in columns), strict=True))
        assert sorted(map(repr, got)) == sorted(map(repr, wanted)), name
    ledger = "SELECT pass_id, run_id, example_id, chunk, worker, seconds, committed_at <= now() FROM ledger"
    assert rows(store, f"{ledger} ORDER BY example_id") == [
        (1, 1, 0, "chunk-0", "worker-0", 0.25, True),
        (1, 1, 3, "chunk-0", "worker-0", 0.25, True),
    ]


def _float32(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_floating(column.type):
        return list(column.cast(pa.float32()).to_pylist())
    return list(column.to_pylist())


def test_both_targets_answer_and_numbers_are_stored_once(store: Store) -> None:
    commit(store, 1, range(8))
    assert rows(store, "SELECT count(*) FROM head_scores WHERE target = 'gold'") == [(8 * 6,)]
    assert rows(store, "SELECT count(*) FROM head_scores WHERE target = 'predicted'") == [(8 * 6,)]
    by_target = (
        "SELECT target, count(DISTINCT example_id), count(*) FROM head_scores_dedup GROUP BY 1 ORDER BY 1"
    )
    assert rows(store, by_target) == [("both", 6, 36), ("gold", 2, 12), ("predicted", 2, 12)]
    pairs = (
        "SELECT p.example_id, list(DISTINCT g.attr_max = p.attr_max ORDER BY 1)"
        " FROM head_scores AS g JOIN head_scores AS p USING (run_id, example_id, layer, head)"
        " WHERE g.target = 'gold' AND p.target = 'predicted' GROUP BY 1 ORDER BY 1"
    )
    assert rows(store, pairs) == [(i, [i % 4 != 3]) for i in range(8)]
    for view in ("layer_scores", "target_scores", "edges", "layer_edges"):
        answering = f"SELECT target, count(DISTINCT example_id) FROM {view} GROUP BY 1 ORDER BY 1"
        assert rows(store, answering) == [("gold", 8), ("predicted", 8)], view


@pytest.mark.parametrize("target", ["gold", "predicted"])
def test_a_run_of_one_target_answers_for_that_alone(tmp_path: Path, target: str) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4, targets=target)
    commit(store, pass_id, range(4), target)
    assert rows(store, "SELECT target, count(*) FROM head_scores GROUP BY 1") == [(target, 24)]
    assert rows(store, f"SELECT ok FROM {INTEGRITY}") == [(True,)]


def test_a_chunk_handed_in_twice_counts_once(store: Store) -> None:
    commit(store, 1, [0, 1, 2])
    before = contents(store)
    assert commit(store, 1, [0, 1, 2]) == []
    assert contents(store) == before


def test_overlapping_chunks_store_each_example_once(store: Store) -> None:
    commit(store, 1, [0, 1, 2, 3])
    assert commit(store, 1, [2, 3, 4, 5]) == [4, 5]
    assert commit(store, 1, [7, 6, 5]) == [6, 7]
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(8, True)]
    assert rows(store, "SELECT DISTINCT run_id FROM edges_dedup") == [(1,)]


def test_the_same_example_in_two_runs_is_two_examples(store: Store) -> None:
    _, second = register(store, 8, "second")
    assert commit(store, 1, [0]) == [0]
    assert commit(store, second, [0]) == [0]
    assert rows(store, f"SELECT run_id, committed, ok FROM {INTEGRITY} ORDER BY 1") == [
        (1, 1, True),
        (2, 1, True),
    ]


def test_what_breaks_a_transaction_is_what_is_said(store: Store) -> None:
    """And not that nothing more can be done in it, the rows taken out of it included."""
    nothing = pa.table({"a": [1]})
    with (
        pytest.raises(duckdb.Error, match="the fault itself"),
        store.write() as connection,
        arrow_rows(connection, "some_rows", nothing),
    ):
        raw(connection).execute("SELECT error('the fault itself')").fetchall()


def test_the_ledger_says_who_computed_a_chunk_and_how_long(store: Store) -> None:
    given = [
        replace(chunk(1, [0, 1]), chunk="0+1", worker="here", seconds=1.5),
        replace(chunk(1, [2]), chunk="2+0", worker="there", seconds=0.25),
    ]
    commit_chunks(store, given)
    assert rows(store, "SELECT example_id, chunk, worker, seconds FROM ledger ORDER BY 1") == [
        (0, "0+1", "here", 1.5),
        (1, "0+1", "here", 1.5),
        (2, "2+0", "there", 0.25),
    ]


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_crash_between_two_statements_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    commit(store, 1, [0])
    before = contents(store)
    left = [step]

    def failing(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("crash")
        insert_rows(*arguments)

    monkeypatch.setattr("attattr_batch.store.writing.ingest.insert_rows", failing)
    with pytest.raises(RuntimeError, match="crash"):
        commit(store, 1, [1, 2])
    assert contents(store) == before
    monkeypatch.undo()
    assert commit(store, 1, [1, 2]) == [1, 2]
    assert rows(store, f"SELECT ok FROM {INTEGRITY}") == [(True,)]


def test_an_example_named_twice_is_refused(store: Store) -> None:
    with pytest.raises(BadFactsError, match="names an example twice"):
        commit_chunk(store, replace(chunk(1, [0, 1]), example_ids=[0, 1, 1]))


def test_chunks_are_committed_together_in_one_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Store] = []
    write = Store.write

    def counted(self: Store) -> AbstractContextManager[Connection]:
        opened.append(self)
        return write(self)

    monkeypatch.setattr(Store, "write", counted)
    commit(store, 1, [2])
    results = commit_chunks(store, [chunk(1, [0, 1]), chunk(1, [3, 2]), chunk(1, [5])])
    assert results == [
        [0, 1],
        [3],
        [5],
    ]
    assert len(opened) == 2
    (store.path.parent / "other").mkdir()
    one_by_one = registered_store(store.path.parent / "other")
    for ids in ([2], [0, 1], [3], [5]):
        commit(one_by_one, 1, ids)
    assert facts_only(store) == facts_only(one_by_one)


def facts_only(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    names = {table.name for table in tables_written_by("chunk").values()}
    return {name: found for name, found in contents(store).items() if name in names}


def test_a_chunk_with_bad_facts_does_not_hold_up_those_beside_it(store: Store) -> None:
    bad = changed("head_scores", with_value("attr_max", math.nan, 3))(facts([2, 3]))
    other_tables = {name: table for name, table in facts([6]).items() if name != "edges"}
    results = commit_chunks(
        store,
        [
            chunk(1, [0, 1]),
            chunk(1, [2, 3], tables=bad),
            chunk(1, [1, 4]),
            chunk(1, [6], tables=other_tables),
        ],
    )
    assert results[0] == [0, 1]
    assert isinstance(results[1], BadFactsError)
    assert results[1].example_ids == (2,)
    assert results[2:] == [[4], [6]]
    assert rows(store, "SELECT example_id FROM ledger ORDER BY 1") == [(0,), (1,), (4,), (6,)]
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(4, True)]


def test_rows_in_wide_types_and_any_order_are_narrowed(store: Store) -> None:
    tables = {
        name: table.select(list(reversed(table.column_names))).take(pa.array(range(table.num_rows))[::-1])
        for name, table in facts([0]).items()
    }
    assert tables["edges"].schema.field("attr").type == pa.float64()
    commit_chunk(store, chunk(1, [0], tables=tables))
    assert rows(store, f"SELECT ok FROM {INTEGRITY}") == [(True,)]
    assert rows(store, "SELECT typeof(attr), typeof(layer) FROM edges LIMIT 1") == [("FLOAT", "SMALLINT")]


def test_nullable_columns_may_be_left_out(store: Store) -> None:
    tables = changed("layer_scores", lambda t: t.drop_columns("agreement_error"))(facts([0]))
    commit_chunk(store, chunk(1, [0], tables=tables))
    assert rows(store, "SELECT count(*), count(agreement_error) FROM layer_scores_dedup") == [(2, 0)]


def test_unlabelled_examples_need_no_gold(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 2, targets="predicted")
    tables = facts([0, 1], "predicted")
    for column in ("gold", "prob_gold"):
        tables["predictions"] = tables["predictions"].drop_columns(column)
    assert commit_chunk(store, chunk(pass_id, [0, 1], tables=tables)) == [0, 1]
    assert rows(store, "SELECT count(*), count(gold) FROM predictions") == [(2, 0)]


def test_failures_are_kept_updated_and_forgotten(store: Store) -> None:
    first = QuarantinedExample(example_id=2, error="ValueError", message="too long", detail="Traceback ...")
    quarantine_examples(
        store, 1, [first, QuarantinedExample(example_id=5, error="MemoryError", message="no memory")]
    )
    quarantine_examples(
        store, 1, [QuarantinedExample(example_id=2, error="ValueError", message="still", attempts=3)]
    )
    found = "SELECT example_id, run_id, error, message, detail, attempts FROM quarantine ORDER BY 1"
    assert rows(store, found) == [
        (2, 1, "ValueError", "still", "", 3),
        (5, 1, "MemoryError", "no memory", "", 1),
    ]
    commit(store, 1, [2, 3])
    assert rows(store, "SELECT example_id FROM quarantine") == [(5,)]


def test_a_committed_example_is_not_quarantined(store: Store) -> None:
    """A slow duplicate that fails must not hide a success."""
    commit(store, 1, [2])
    quarantine_examples(store, 1, [QuarantinedExample(example_id=2, error="ValueError", message="late")])
    assert rows(store, "SELECT count(*) FROM quarantine") == [(0,)]


def test_failing_again_after_a_retry(store: Store) -> None:
    for attempt in (1, 2, 3):
        quarantine_examples(
            store, 1, [QuarantinedExample(example_id=2, error="E", message="m", attempts=attempt)]
        )
        with store.write() as connection:
            connection.exec_driver_sql("DELETE FROM quarantine")
    quarantine_examples(store, 1, [QuarantinedExample(example_id=2, error="E", message="m", attempts=4)])
    assert rows(store, "SELECT attempts FROM quarantine") == [(4,)]
