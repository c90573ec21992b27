"""What the commands that look at a store say: all they promise, and nothing that is not so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.calling import Cli, contains
from helpers.fabricate import commit, execute, filled_store, register

from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.passes import seal_pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], store: Store) -> Cli:
    return Cli(capsys, store.path)


def test_a_job_is_shown_with_its_query_and_the_parameters_that_reach_it(cli: Cli) -> None:
    shown = json.loads(cli.bare("jobs", "show", "pruning_curve", "--format", "json").out)
    parts = {(row["part"], row["name"].split(" ")[0]): row["meaning"] for row in shown}
    assert parts["parameter of splits", "sample"].startswith("Labelled rows")
    assert ("parameter of pruned_accuracy", "draws") in parts
    assert ("one row per", "run_id,") in parts
    assert "GROUP BY a.run_id, a.criterion" in parts["query", "pruning_curve"]
    table = cli.bare("jobs", "show", "splits").out
    assert contains(
        table, "sample (integer from 2; default 1000)", "\nSELECT run_id, purpose, example_id, unnest("
    )
    assert "parameter of" not in table
    assert "example_id (integer from 0 or null; default null)" in cli.bare("jobs", "show", "tree_edges").out


def test_what_comes_next_after_jobs_can_be_asked(cli: Cli) -> None:
    answer = cli("jobs", "run", "token_pairs", "splits")
    assert f"next: attattr sql 'select * from splits' --db {cli.db}" in answer.err
    assert cli("sql", "select * from splits").code == 0


def test_status_shows_the_first_failures_and_says_where_the_rest_is(cli: Cli, store: Store) -> None:
    failure = "SELECT 1, i + 8, 1, 'ValueError', 'odd number', '', 2, now() FROM range({}) AS r (i)"
    execute(store, f"INSERT INTO quarantine {failure.format(50)}")
    answer = cli("status")
    assert "quarantined (50)" in answer.err and "only the first" not in answer.err
    assert answer.out.count("odd number") == 50
    execute(store, f"INSERT INTO quarantine {failure.replace('i + 8', 'i + 58').format(1)}")
    answer = cli("status")
    assert contains(
        answer.err, "quarantined (51)", "only the first 50 are shown", "select * from quarantined"
    )
    assert answer.out.count("odd number") == 50
    (row,) = json.loads(cli("status", "--format", "json").out)
    assert row["quarantined"] == 51


def test_json_of_a_query_is_json_and_whole(cli: Cli) -> None:
    query = (
        "SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS n, 1.5::DECIMAL(4, 2) AS d, ['-inf'::DOUBLE, 0.5] AS l,"
        " {'x': 'inf'::FLOAT} AS s, INTERVAL '6.5 seconds' AS took"
    )
    (row,) = json.loads(cli("sql", query, "--format", "json").out, parse_constant=pytest.fail)
    expected = {"a": 1, "a_1": 2, "n": None, "d": 1.5, "l": [None, 0.5], "s": {"x": None}}
    assert row == {**expected, "took": "0:00:06.500000"}


def test_verify_announces_no_rows_that_it_does_not_show(cli: Cli, store: Store) -> None:
    execute(store, "DELETE FROM head_scores_dedup WHERE example_id = 3 AND layer = 1 AND head = 0")
    assert "ledger_and_facts: first 1 of 1 offending rows" in cli("verify").err
    for form in ("json", "csv"):
        answer = cli("verify", "--format", form)
        assert answer.code == 1
        assert "FAILED" in answer.out and "offending rows" not in answer.err


def test_diff_says_why_heads_are_not_compared(cli: Cli, store: Store) -> None:
    _, pass_id = register(store, 4, "second")
    register(store, 4, "larger", n_heads=12)
    execute(store, 'UPDATE runs SET identity = \'{"dataset": "a"}\'')
    answer = cli("diff", "first", "second")
    assert contains(answer.err, "heads are not compared: no attributions of second for", "attattr status")
    assert "architectures differ (bert with 2 x 3 heads and bert with 2 x 12 heads)" in (
        cli("diff", "first", "larger").err
    )
    commit(store, pass_id, range(4))
    seal_pass(store, pass_id)
    answer = cli("diff", "first", "second")
    assert (answer.code, answer.err) == (0, "")
    assert "correlation" in answer.out


def test_what_is_told_of_an_unfinished_run_says_so(cli: Cli, store: Store, tmp_path: Path) -> None:
    _, pass_id = register(store, 8, "second")
    commit(store, pass_id, range(3))
    execute(store, 'UPDATE runs SET identity = \'{"dataset": "a"}\'')
    said = "run second is not finished: 3 of 8 examples are committed"
    commands = [
        ("export", "second", "--to", tmp_path / "second"),
        ("diff", "first", "second"),
        ("report", "-o", tmp_path / "report.html"),
    ]
    for command in commands:
        answer = cli(*command)
        assert answer.code == 0 and answer.err.count(said) == 1, command
    assert f"When this was written, {said}." in (tmp_path / "second" / "README.md").read_text()
    assert "not finished" not in cli("export", "first", "--to", tmp_path / "first").err
    assert "not finished" not in (tmp_path / "first" / "README.md").read_text()


def test_a_tree_of_one_edge_has_one_edge(cli: Cli, store: Store, tmp_path: Path) -> None:
    execute(store, "UPDATE layer_scores_dedup SET off_first_max = 0.1, edge_floor = 0.01")
    answer = cli("tree", "first", 0, "-o", tmp_path / "tree.json")
    assert contains(answer.err, ": 1 edge below 'good'")
