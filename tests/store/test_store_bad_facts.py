"""Facts that are not what they must be: refused, with the examples named, and nothing stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers.fabricate import (
    INTEGRITY,
    Tables,
    changed,
    chunk,
    commit,
    facts,
    record,
    registered_store,
    rows,
    with_value,
)

from attattr_batch.errors import BadFactsError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import query_name, tables_written_by
from attattr_batch.store.writing.ingest import commit_chunk
from attattr_batch.store.writing.passes import register_pass


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
        "unknown column 'attrs'",
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
    bad = chunk([0, 1, 2, 3], tables=change(facts([0, 1, 2, 3])))
    with pytest.raises(BadFactsError, match=message):
        commit_chunk(untouched, 1, bad)
    assert rows(untouched, f"SELECT committed, ok FROM {INTEGRITY}") == [(1, True)]


def test_bad_facts_name_the_examples_and_can_be_mended(store: Store) -> None:
    bad = changed("head_scores", with_value("attr_max", math.nan, 20))(facts([0, 1, 2, 3]))
    with pytest.raises(BadFactsError) as caught:
        commit_chunk(store, 1, chunk([0, 1, 2, 3], tables=bad))
    assert caught.value.example_ids == (3,)
    assert commit(store, 1, [0, 1, 2, 3]) == [0, 1, 2, 3]


def test_an_ordered_pass_answers_every_example(store: Store) -> None:
    with store.write() as connection:
        pass_id = register_pass(connection, 1, "masked_answers", "key", {"job": "mine"}, 2)
    answers = {"example_id": [0], "job": ["mine"], "predicted": [1], "prob_gold": [0.5]}
    for tables in ({}, {"masked_answers": pa.table(answers)}):
        with pytest.raises(BadFactsError, match="without an answer") as caught:
            commit_chunk(store, pass_id, chunk([0, 1], tables=tables))
        assert 1 in caught.value.example_ids
    assert commit_chunk(store, pass_id, chunk([0], tables=tables)) == [0]


def test_every_table_of_facts_is_checked_here() -> None:
    """A new table of facts must be added to these tests; answers that jobs order have tests of their own."""
    ordered = {"masked_answers", "attacked_answers", "path_scores"}
    assert {query_name(table) for table in tables_written_by("chunk").values()} - ordered == set(facts([0]))
    assert record()["targets"] == "both"
