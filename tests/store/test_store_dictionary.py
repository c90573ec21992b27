from __future__ import annotations

import pytest

from attattr_batch.errors import UserError
from attattr_batch.store.database import migrate
from attattr_batch.store.database.tables import arrow_schema, metadata, query_name, tables_written_by
from attattr_batch.store.reading import data_dictionary as dictionary

CONTRACT = {
    "runs": "run_id name run_key labels task split model n_layers n_heads n_examples targets quadrature dtype"
    " status config created_at sealed_at",
    "examples": "run_id example_id text_a text_b gold",
    "predictions": "run_id example_id gold predicted prob_gold prob_predicted n_tokens",
    "head_scores": "run_id example_id layer head target attr_max attr_sum attn_max attn_confidence taylor",
    "layer_scores": "run_id example_id layer target f_full f_zero completeness_error nodes",
    "edges": "run_id example_id layer head target rank query_pos key_pos query_token key_token attr attn",
    "layer_edges": "run_id example_id layer target query_pos key_pos attr",
    "ledger": "pass_id run_id example_id",
    "quarantine": "pass_id run_id example_id error message",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_names_that_stay(name: str) -> None:
    section = dictionary.dictionary_markdown().split(f"### {name}\n")[1].split("\n### ")[0]
    for column in CONTRACT[name].split():
        assert f"\n| {column} | " in section


def test_everything_is_described() -> None:
    for table in metadata.tables.values():
        assert table.comment and table.comment.endswith("."), table.name
        for column in table.columns:
            assert column.comment and column.comment.endswith("."), f"{table.name}.{column.name}"


def test_a_views_own_words_come_first() -> None:
    assert dictionary.meaning("head_summary", "attr_max").startswith("Mean of head_scores.attr_max")
    assert dictionary.meaning("head_scores", "attr_max").startswith("Largest (signed) entry")
    assert dictionary.meaning("head_summary", "run_id") == "Run that the row belongs to (runs.run_id)."
    assert dictionary.meaning("runs", "run_id") == "Number of the run; never used twice in one file."
    with pytest.raises(UserError, match="has no meaning"):
        dictionary.meaning("head_summary", "colour")


def test_no_meaning_is_guessed_where_tables_differ() -> None:
    assert dictionary.meaning("quarantined", "error") == "Name of the error."
    assert dictionary.meaning("built_jobs", "job").startswith("The job that was built")
    with pytest.raises(UserError, match="tables differ about the column"):
        dictionary.meaning("head_summary", "gold")


def test_facts_have_no_key_and_small_types() -> None:
    """A key makes ingest four times slower; the sizes are what the store's estimates stand on."""
    for name, table in (tables_written_by("chunk") | tables_written_by("register")).items():
        assert not table.primary_key.columns, name
        assert not table.indexes and not table.foreign_keys, name
        for field in arrow_schema(table):
            assert str(field.type) not in ("int64", "double"), f"{name}.{field.name}"


def test_keys_and_writers_are_declared() -> None:
    for table in metadata.tables.values():
        assert set(table.info["key"]) <= set(table.columns.keys()), table.name
        if table.primary_key.columns:
            assert set(table.info["key"]) == set(table.primary_key.columns.keys())
        assert table.info["written_by"] in ("register", "chunk", "store")


def test_every_stored_table_has_its_view() -> None:
    views = {view.name for view in migrate.view_files()}
    stored = [table for table in metadata.tables.values() if query_name(table) != table.name]
    assert len(stored) == 5
    assert {query_name(table) for table in stored} <= views
