from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fabricate import chunk, commit, contents, facts, new_store, record, register, registered_store, rows
from sqlalchemy import Connection

from attattr_batch.store.connection import Store
from attattr_batch.store.ingest import CommitResult, Failure, commit_chunk, commit_chunks, record_failures
from attattr_batch.store.rows import BadFactsError, insert_rows
from attattr_batch.store.tables import query_name, tables_written_by

Tables = dict[str, pa.Table]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a run of 8 examples; the pass has id 1."""
    return registered_store(tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One such store for every test that ends with it unchanged; example 6 is committed."""
    one = registered_store(tmp_path_factory.mktemp("untouched"))
    commit(one, 1, [6])
    return one


def test_a_chunk_is_stored_as_given(store: Store) -> None:
    result = commit(store, 1, [3, 0])
    assert result == CommitResult(committed=(0, 3), duplicates=())
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
        "SELECT target, count(DISTINCT example_id), count(*) FROM head_scores_stored GROUP BY 1 ORDER BY 1"
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
    _, pass_id = register(store, 4, target=target)
    commit(store, pass_id, range(4), target)
    assert rows(store, "SELECT target, count(*) FROM head_scores GROUP BY 1") == [(target, 24)]
    assert rows(store, "SELECT ok FROM integrity") == [(True,)]


def test_a_chunk_handed_in_twice_counts_once(store: Store) -> None:
    commit(store, 1, [0, 1, 2])
    before = contents(store)
    assert commit(store, 1, [0, 1, 2]) == CommitResult(committed=(), duplicates=(0, 1, 2))
    assert contents(store) == before


def test_overlapping_chunks_store_each_example_once(store: Store) -> None:
    commit(store, 1, [0, 1, 2, 3])
    assert commit(store, 1, [2, 3, 4, 5]) == CommitResult(committed=(4, 5), duplicates=(2, 3))
    assert commit(store, 1, [7, 6, 5]) == CommitResult(committed=(6, 7), duplicates=(5,))
    assert rows(store, "SELECT committed, ok FROM integrity") == [(8, True)]
    assert rows(store, "SELECT DISTINCT run_id FROM edges_stored") == [(1,)]


def test_the_same_example_in_two_runs_is_two_examples(store: Store) -> None:
    _, second = register(store, 8, "second")
    assert commit(store, 1, [0]).committed == (0,)
    assert commit(store, second, [0]).committed == (0,)
    assert rows(store, "SELECT run_id, committed, ok FROM integrity ORDER BY 1") == [
        (1, 1, True),
        (2, 1, True),
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

    monkeypatch.setattr("attattr_batch.store.ingest.insert_rows", failing)
    with pytest.raises(RuntimeError, match="crash"):
        commit(store, 1, [1, 2])
    assert contents(store) == before
    monkeypatch.undo()
    assert commit(store, 1, [1, 2]).committed == (1, 2)
    assert rows(store, "SELECT ok FROM integrity") == [(True,)]


def changed(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Tables], Tables]:
    return lambda tables: tables | {name: change(tables[name])}


def with_value(column: str, value: Any, row: int = 0) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.column_names.index(column), column, pa.array(values))

    return change


def all_text(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("attn"), "attn", pa.array(["much"] * table.num_rows))


def without_row(table: pa.Table) -> pa.Table:
    return table.slice(1)


def twice_the_first(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def duplicate_for_missing(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(1), table.slice(1, 1)])


def as_gold(table: pa.Table) -> pa.Table:
    targets = pc.if_else(pc.equal(table["target"], "both"), "gold", table["target"])
    return table.set_column(table.column_names.index("target"), "target", targets)


BAD: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "unknown table": (lambda tables: tables | {"head_score": tables["edges"]}, "did you mean 'head_scores'"),
    "table of ours": (lambda tables: tables | {"ledger": tables["edges"]}, "unknown table of facts"),
    "missing table": (lambda tables: {k: v for k, v in tables.items() if k != "head_scores"}, "head_scores"),
    "unknown column": (
        changed("edges", lambda t: t.append_column("attrs", t["attr"])),
        "unknown column 'attrs'; did you mean 'attr'",
    ),
    "missing column": (
        changed("edges", lambda t: t.drop_columns("attr")),
        "edges.attr: the column is missing",
    ),
    "run_id given": (
        changed("edges", lambda t: t.append_column("run_id", t["example_id"])),
        "not the worker's to give",
    ),
    "null": (changed("head_scores", with_value("attr_max", None)), "attr_max: null .*examples 0"),
    "NaN": (changed("head_scores", with_value("attr_max", math.nan, 20)), "attr_max: NaN .*examples 3"),
    "infinite": (changed("layer_scores", with_value("f_full", math.inf)), "f_full: NaN or infinite"),
    "too large for float32": (changed("edges", with_value("attr", 1e300)), "attr: NaN or infinite"),
    "NaN in a nullable column": (
        changed("head_scores", with_value("attr_second", math.nan)),
        "attr_second: NaN",
    ),
    "NaN in a list": (
        changed("predictions", with_value("probabilities", [math.nan, 1.0], 2)),
        "probabilities: null, NaN or infinite .*examples 2",
    ),
    "null in a list": (changed("predictions", with_value("probabilities", [None, 1.0])), "examples 0"),
    "too large for its type": (
        changed("head_scores", with_value("layer", 70_000)),
        "layer: .* does not fit",
    ),
    "fraction": (changed("layer_scores", with_value("nodes", 4.5)), "nodes: a value does not fit"),
    "text for a number": (changed("edges", all_text), "edges.attn: a value does not fit"),
    "negative": (changed("edges", with_value("query_pos", -1)), "query_pos: negative"),
    "layer beyond the model": (changed("head_scores", with_value("layer", 2)), "layer must be below 2"),
    "head beyond the model": (changed("edges", with_value("head", 3)), "head must be below 3"),
    "another example": (changed("edges", with_value("example_id", 5)), "edges: rows of other examples .*5"),
    "unknown target": (changed("edges", with_value("target", "golden")), "target must be"),
    "edges of a target it lacks": (
        changed("edges", with_value("target", "gold")),
        "does not have .*examples 0",
    ),
    "head missing": (changed("head_scores", without_row), "1 of 30 rows are missing .*examples 0"),
    "head twice": (changed("head_scores", twice_the_first), "head_scores: more than one row"),
    "head twice for another": (changed("head_scores", duplicate_for_missing), "more than one row"),
    "layer missing": (changed("layer_scores", without_row), "layer_scores: 1 of 10 rows are missing"),
    "layer twice": (changed("layer_scores", twice_the_first), "layer_scores: more than one row"),
    "target missing": (changed("target_scores", without_row), "target_scores: 1 of 5 rows are missing"),
    "prediction missing": (changed("predictions", without_row), "predictions: 1 of 4 rows are missing"),
    "prediction twice": (changed("predictions", twice_the_first), "predictions: more than one row"),
    "no gold label": (changed("predictions", with_value("gold", None)), "no gold label"),
    "gold where both coincide": (
        lambda tables: {k: as_gold(v) if "target" in v.column_names else v for k, v in tables.items()},
        "rows that do not belong",
    ),
    "both where they differ": (
        changed("target_scores", with_value("target", "both", 3)),
        "do not belong .*3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_facts_are_refused_and_nothing_is_stored(untouched: Store, case: str) -> None:
    change, message = BAD[case]
    bad = chunk(1, [0, 1, 2, 3], tables=change(facts([0, 1, 2, 3])))
    with pytest.raises(BadFactsError, match=message):
        commit_chunk(untouched, bad)
    assert rows(untouched, "SELECT committed, ok FROM integrity") == [(1, True)]


def test_bad_facts_name_the_examples_and_can_be_mended(store: Store) -> None:
    bad = changed("head_scores", with_value("attr_max", math.nan, 20))(facts([0, 1, 2, 3]))
    with pytest.raises(BadFactsError) as caught:
        commit_chunk(store, chunk(1, [0, 1, 2, 3], tables=bad))
    assert caught.value.example_ids == (3,)
    assert commit(store, 1, [0, 1, 2, 3]).committed == (0, 1, 2, 3)


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
        CommitResult((0, 1), ()),
        CommitResult((3,), (2,)),
        CommitResult((5,), ()),
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
    assert results[0] == CommitResult((0, 1), ())
    assert isinstance(results[1], BadFactsError)
    assert results[1].example_ids == (2,)
    assert results[2:] == [CommitResult((4,), (1,)), CommitResult((6,), ())]
    assert rows(store, "SELECT example_id FROM ledger ORDER BY 1") == [(0,), (1,), (4,), (6,)]
    assert rows(store, "SELECT committed, ok FROM integrity") == [(4, True)]


def test_rows_in_wide_types_and_any_order_are_narrowed(store: Store) -> None:
    tables = {
        name: table.select(list(reversed(table.column_names))).take(pa.array(range(table.num_rows))[::-1])
        for name, table in facts([0]).items()
    }
    assert tables["edges"].schema.field("attr").type == pa.float64()
    commit_chunk(store, chunk(1, [0], tables=tables))
    assert rows(store, "SELECT ok FROM integrity") == [(True,)]
    assert rows(store, "SELECT typeof(attr), typeof(layer) FROM edges LIMIT 1") == [("FLOAT", "SMALLINT")]


def test_nullable_columns_may_be_left_out(store: Store) -> None:
    tables = changed("layer_scores", lambda t: t.drop_columns("agreement_error"))(facts([0]))
    commit_chunk(store, chunk(1, [0], tables=tables))
    assert rows(store, "SELECT count(*), count(agreement_error) FROM layer_scores_stored") == [(2, 0)]


def test_unlabelled_examples_need_no_gold(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 2, target="predicted")
    tables = facts([0, 1], "predicted")
    for column in ("gold", "prob_gold"):
        tables["predictions"] = tables["predictions"].drop_columns(column)
    assert commit_chunk(store, chunk(pass_id, [0, 1], tables=tables)).committed == (0, 1)
    assert rows(store, "SELECT count(*), count(gold) FROM predictions") == [(2, 0)]


def test_failures_are_kept_updated_and_forgotten(store: Store) -> None:
    first = Failure(example_id=2, kind="ValueError", message="too long", detail="Traceback ...")
    record_failures(store, 1, [first, Failure(example_id=5, kind="MemoryError", message="no memory")])
    record_failures(store, 1, [Failure(example_id=2, kind="ValueError", message="still", attempts=3)])
    found = "SELECT example_id, run_id, kind, message, detail, attempts FROM failures ORDER BY 1"
    assert rows(store, found) == [
        (2, 1, "ValueError", "still", "", 3),
        (5, 1, "MemoryError", "no memory", "", 1),
    ]
    commit(store, 1, [2, 3])
    assert rows(store, "SELECT example_id FROM failures") == [(5,)]


def test_a_committed_example_is_not_quarantined(store: Store) -> None:
    """A slow duplicate that fails must not hide a success."""
    commit(store, 1, [2])
    record_failures(store, 1, [Failure(example_id=2, kind="ValueError", message="late")])
    assert rows(store, "SELECT count(*) FROM failures") == [(0,)]


def test_failing_again_after_a_retry(store: Store) -> None:
    for attempt in (1, 2, 3):
        record_failures(store, 1, [Failure(example_id=2, kind="E", message="m", attempts=attempt)])
        with store.write() as connection:
            connection.exec_driver_sql("DELETE FROM failures")
    record_failures(store, 1, [Failure(example_id=2, kind="E", message="m", attempts=4)])
    assert rows(store, "SELECT attempts FROM failures") == [(4,)]


def test_every_table_of_facts_is_checked_here() -> None:
    """A new table of facts must be added to these tests; answers that jobs order have tests of their own."""
    ordered = {"mask_outcomes", "attack_outcomes"}
    assert {query_name(table) for table in tables_written_by("chunk").values()} - ordered == set(facts([0]))
    assert record().target == "both"
