from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from helpers.fabricate import commit, execute, filled_store, register, registered_store, rows

from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.tables import metadata
from attattr_batch.store.reading.console import query
from attattr_batch.store.writing.builds import JobRun, log_job
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples

STORED = ["head_scores", "layer_scores", "target_scores", "edges", "layer_edges"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs, so that a filter on run_id is not trivially true."""
    one = filled_store(tmp_path_factory.mktemp("views"))
    _, pass_id = register(one, 4, "second")
    commit(one, pass_id, range(4))
    return one


def scans(store: Store, sql: str) -> list[dict[str, Any]]:
    """What the query plan reads: for every table scan its table, columns and filters."""
    with store.read() as connection:
        (plan,) = json.loads(raw(connection).execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()[0][1])
    found, left = [], [plan]
    while left:
        node = left.pop()
        left += node["children"]
        if "Table" in node["extra_info"]:
            found.append(node["extra_info"])
    return found


@pytest.mark.parametrize("view", STORED)
@pytest.mark.parametrize(("target", "other"), [("gold", "predicted"), ("predicted", "gold")])
def test_asking_for_a_target_scans_the_table_once(store: Store, view: str, target: str, other: str) -> None:
    """The other half of the view is pruned, and both filters reach the scan."""
    (scan,) = scans(store, f"SELECT * FROM {view} WHERE target = '{target}' AND run_id = 1")
    assert scan["Table"].endswith(f".{view}_dedup")
    assert sorted(scan["Filters"]) == ["(run_id = 1)", f"(target != '{other}')"]


def test_a_view_reads_only_the_columns_asked_for(store: Store) -> None:
    (scan,) = scans(store, "SELECT avg(attr_max) FROM head_scores WHERE target = 'gold' AND run_id = 1")
    assert scan["Projections"] in ("attr_max", ["attr_max"])


@pytest.mark.parametrize("view", STORED)
def test_a_view_has_its_tables_columns_in_order(store: Store, view: str) -> None:
    columns = "SELECT list(column_name ORDER BY column_index) FROM duckdb_columns() WHERE table_name = '{}'"
    assert rows(store, columns.format(view)) == rows(store, columns.format(f"{view}_dedup"))


def test_head_summary_is_the_mean_over_examples(store: Store) -> None:
    one = "run_id = 1 AND layer = 1 AND head = 2 AND target = 'gold'"
    found = rows(store, f"SELECT n, attr_max, taylor FROM head_summary WHERE {one}")
    values = [(i * 64 + 16 + 8 + (0 if i % 4 == 3 else 2)) / 65536 for i in range(8)]
    assert found == [(8, sum(values) / 8, sum(values) / 8)]
    assert rows(store, "SELECT count(*) FROM head_summary WHERE run_id = 1") == [(2 * 2 * 3,)]


def test_edge_tokens_writes_tokens_out(store: Store) -> None:
    one = "run_id = 1 AND layer = 1 AND head = 2 AND target = 'gold'"
    query = (
        f"SELECT query_pos, query, key_pos, key FROM edge_tokens WHERE {one} AND example_id = 0 ORDER BY rank"
    )
    assert rows(store, query) == [(3, "good", 1, "a"), (3, "good", 2, "film")]
    execute(store, "UPDATE edges_dedup SET query_token = 999 WHERE example_id = 1")
    query = "SELECT DISTINCT query FROM edge_tokens WHERE example_id = 1"
    assert rows(store, query) == [(None,)], "an unknown token must not hide the edge"


def test_progress(tmp_path: Path) -> None:
    store = registered_store(tmp_path)
    register(store, 0, "empty")
    query = (
        "SELECT run, status, committed, quarantined, total, share, examples_per_second"
        " FROM progress ORDER BY pass_id"
    )
    assert rows(store, query) == [
        ("first", "running", 0, 0, 8, 0.0, None),
        ("empty", "running", 0, 0, 0, None, None),
    ]
    commit(store, 1, [0, 1, 2])
    assert rows(store, query)[0][2:] == (3, 0, 8, 0.375, None)
    commit(store, 1, [3, 4])
    quarantine_examples(store, 1, [QuarantinedExample(example_id=7, error="E", message="m")])
    execute(
        store,
        "UPDATE ledger SET committed_at = TIMESTAMPTZ '2026-01-01 00:00:00+00' WHERE example_id < 3",
        "UPDATE ledger SET committed_at = TIMESTAMPTZ '2026-01-01 00:00:04+00' WHERE example_id >= 3",
    )
    assert rows(store, query)[0][2:] == (5, 1, 8, 0.75, 2 / 4)


def test_quarantined_names_run_pass_and_reason(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "second")
    quarantine_examples(store, pass_id, [QuarantinedExample(example_id=3, error="E", message="m")])
    query = "SELECT run, pass, example_id, error, message FROM quarantined"
    assert rows(store, query) == [("second", "attribute", 3, "E", "m")]


def test_built_jobs_has_the_latest_build_that_did_not_fail(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with store.write() as connection:
        for value, error in ((1, None), (2, None), (3, "broken")):
            log_job(connection, JobRun("splits", {"seed": value}, ["first"], started), rows=8, error=error)
        log_job(connection, JobRun("never", {}, ["first"], started), error="broken")
    assert rows(store, "SELECT job, params, runs, rows FROM built_jobs") == [
        ("splits", '{"seed": 2}', '["first"]', 8)
    ]


def test_readers_have_this_releases_views_and_the_next_writer_writes_them(tmp_path: Path) -> None:
    store, definition = filled_store(tmp_path), "SELECT sql FROM duckdb_views() WHERE view_name = 'progress'"
    ours = rows(store, definition)
    execute(
        store,
        "DROP VIEW run_summary",
        "CREATE OR REPLACE VIEW progress AS SELECT 'earlier' AS run",
        "UPDATE meta SET value = 'earlier' WHERE key = 'views_and_comments'",
    )
    before = store.path.read_bytes()
    for _ in range(2):
        assert rows(store, "SELECT committed, accuracy FROM run_summary") == [(8, 0.75)]
        assert rows(store, "SELECT run FROM progress") == [("first",)]
        assert query(store.path, "SELECT run FROM progress").rows == [("first",)]
    assert store.path.read_bytes() == before
    store.migrate()
    assert rows(store, definition) == ours


def test_runs_shares_no_column_with_another_table_but_keys(tmp_path: Path) -> None:
    runs = metadata.tables["runs"]
    shared = {
        (name, column.name)
        for name, table in metadata.tables.items()
        for column in table.columns
        if table is not runs and column.name in runs.columns
    }
    assert {column for _, column in shared - {("vocabulary", "tokenizer_key")}} == {"run_id"}
    query = (
        "select name, layer, head, avg(attr_max) from head_scores join runs using (run_id)"
        " where target = 'gold' group by all"
    )
    assert len(rows(filled_store(tmp_path), query)) == 6
