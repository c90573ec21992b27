"""Building tables and views: what was there stays until its successor is right; nothing is half-built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.fabricate import add_run, contents, execute, filled_store, register, registered_store, rows
from helpers.folders import build, write_audit, write_job

from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store

PER_RUN = "SELECT run_id, count(*) AS n FROM predictions JOIN selected_runs USING (run_id) GROUP BY run_id"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sealed run of eight examples."""
    return filled_store(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def tables(store: Store) -> set[str]:
    return {name for (name,) in rows(store, "SELECT table_name FROM duckdb_tables()")}


def test_a_job_of_ones_own_may_depend_on_ours(store: Store, folder: Path) -> None:
    query = (
        "SELECT part, count(*) AS n FROM splits WHERE purpose = 'pruning' AND run_id > $above GROUP BY part"
    )
    write_job(
        folder, "parts", query, "depends: splits", "param above: integer = 0; A run.", "column n: Rows."
    )
    results = build(store, "parts", folder=folder)
    assert list(results) == ["splits", "parts"]
    assert {result.status for result in results.values()} == {"built"}
    assert results["parts"].rows == 2
    assert rows(store, "SELECT * FROM parts ORDER BY part") == [("evaluation", 4), ("ranking", 4)]
    logged = rows(store, "SELECT job, result, params, runs, rows, error FROM job_runs ORDER BY job_run_id")
    defaults = json.dumps({"rows": "disjoint", "sample": 1000, "seed": 0})
    assert logged == [
        ("splits", "built", defaults, '["first"]', 16, None),
        ("parts", "built", '{"above": 0}', '["first"]', 2, None),
    ]
    comments = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'parts'"
    assert dict(rows(store, comments)) == {"part": None, "n": "Rows."}
    assert rows(store, "SELECT comment FROM duckdb_tables() WHERE table_name = 'parts'") == [("For a test.",)]


def test_values_of_parameters_reach_every_job_that_has_them(store: Store, folder: Path) -> None:
    write_job(folder, "one", "SELECT $seed AS seed", "param seed: integer = 0; Seed.")
    write_job(folder, "two", "SELECT $seed AS seed, $what AS what", "param seed: integer = 7; Seed.",
              "param what: text = null; Anything.")  # fmt: skip
    build(store, "one", "two", folder=folder)
    assert rows(store, "FROM one") == [(0,)]
    assert rows(store, "FROM two") == [(7, None)]
    build(store, "one", "two", folder=folder, params={"seed": "3", "what": "it's"})
    assert rows(store, "FROM one") == [(3,)]
    assert rows(store, "FROM two") == [(3, "it's")]


BAD_FOLDERS = {
    "circle": (["a: depends: b", "b: depends: a"], r"circle\n.*(a -> b|b -> a)"),
    "unknown dependency": (
        ["a: depends: spilts"],
        r"depends on something unknown(.|\n)*did you mean 'splits'",
    ),
    "unknown audit": (["a: audits: spilts_have_answers"], r"audit that does not(.|\n)*'splits_have_answers'"),
    "the name of a job": (["splits: depends: predictions"], r"two files have one name(.|\n)*rename yours"),
    "the name of a table": (["predictions: depends: splits"], r"name of a table of the store"),
    "the name of a view": (["head_summary: depends: splits"], r"name of a table of the store"),
    "no identifier": (["a-b: depends: splits"], r"lower case letters"),
    "undeclared parameter": (["a: depends: splits, $seed"], r"differ\n.*\$seed"),
    "unused parameter": (["a: param seed: integer = 0; Seed."], r"differ\n.*\$seed"),
    "no type": (["a: param seed: 0"], r"cannot be read(.|\n)*TYPE = DEFAULT; meaning"),
    "unknown type": (["a: param seed: float = 0; Seed."], r"cannot be read\n.*float(.|\n)*integer, number"),
    "a limit of words": (["a: param seed: text from 1 = x; Seed."], r"cannot be read\n.*text from 1"),
    "a limit that is none": (["a: param seed: number to nan = 0; Seed."], r"cannot be read\n.*nan"),
    "default beyond the limits": (
        ["a: param seed: integer from 1 = 0; Seed."],
        r"'seed' has a wrong value\n.*0",
    ),
    "default of another type": (["a: param seed: integer = x; Seed."], r"'seed' has a wrong value\n.*x"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_that_cannot_be_used_changes_nothing(store: Store, folder: Path, case: str) -> None:
    headers, message = BAD_FOLDERS[case]
    for header in headers:
        name, _, line = header.partition(": ")
        line, _, used = line.partition(", ")
        write_job(folder, name, f"SELECT 1 AS one {used and ', ' + used}", line)
    before = contents(store)
    with pytest.raises(UserError, match=message):
        build(store, folder=folder)
    assert contents(store) == before


def test_headers_that_say_too_little_or_too_much(store: Store, folder: Path) -> None:
    write_job(folder, "a", "SELECT 1 AS one", materialized="index")
    with pytest.raises(
        UserError, match=r"(?s)needs `-- materialized.*table, view, masked_answers, attacked_answers"
    ):
        build(store, folder=folder)
    write_job(folder, "a", "SELECT 1 AS one", "target: both")
    with pytest.raises(UserError, match=r"(?s)needs `-- target.*both.*gold, predicted"):
        build(store, folder=folder)
    write_job(folder, "a", "SELECT $one AS one", "param one: integer = 1; One.", materialized="view")
    with pytest.raises(UserError, match="a view takes no parameters"):
        build(store, folder=folder)
    with pytest.raises(UserError, match="no jobs there"):
        build(store, folder=folder / "nowhere")
    write_job(folder, "a", "SELECT 1 AS one")
    write_audit(folder, "splits_have_answers", "SELECT 1 LIMIT 0")
    with pytest.raises(UserError, match="two files have one name"):
        build(store, folder=folder)


WRONG_REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("head_universalty", {}, r"unknown job(.|\n)*did you mean 'head_universality'"),
    ("splits", {"params": {"sampel": "3"}}, r"unknown parameter(.|\n)*did you mean 'sample'"),
    ("splits", {"params": {"sample": "3.5"}}, r"'sample' has a wrong value\n.*3.5\n.*integer"),
    ("splits", {"params": {"rows": "all"}}, r"'rows' has a wrong value\n.*\n.*disjoint, released"),
    ("trigger_patterns", {"params": {"min_value": "x"}}, r"wrong value\n.*x\n.*number"),
    ("head_importance", {"params": {"replicates": "0"}}, r"wrong value\n.*0\n.*integer from 1 to 30000$"),
    ("tree_edges", {"params": {"tau": "5"}}, r"wrong value\n.*5\n.*number from 0 to 1$"),
    ("tree_edges", {"params": {"tau": "nan"}}, r"wrong value\n.*nan\n.*number from 0 to 1$"),
    ("trigger_patterns", {"params": {"min_value": "1e999"}}, r"wrong value\n.*1e999\n.*number from 0$"),
    ("tree_edges", {"params": {"tau": "null"}}, r"wrong value\n.*null\n.*number from 0 to 1$"),
    ("tree_edges", {"params": {"example_id": "-1"}}, r"wrong value\n.*-1\n.*integer from 0 or null$"),
    ("splits", {"params": {"sample": "null"}}, r"wrong value\n.*null\n.*integer from 2$"),
    ("splits", {"params": {"rows": "null"}}, r"wrong value\n.*null\n.*disjoint, released$"),
    ("splits", {"params": {"spilts.seed": "1"}}, r"unknown parameter(.|\n)*did you mean 'splits.seed'"),
    ("splits", {"params": {"head_ablation.seed": "1"}}, r"unknown parameter(.|\n)*splits.seed"),
    ("splits", {"runs": ["frist"]}, r"no such run(.|\n)*did you mean 'first'"),
]


@pytest.mark.parametrize(("job", "request_", "message"), WRONG_REQUESTS)
def test_a_wrong_request_changes_nothing(
    store: Store, job: str, request_: dict[str, Any], message: str
) -> None:
    before = contents(store)
    with pytest.raises(UserError, match=message):
        build(store, job, **request_)
    assert contents(store) == before


def test_a_failing_audit_keeps_the_old_table(store: Store, folder: Path) -> None:
    write_job(folder, "answer", "SELECT 41 AS n", "audits: right")
    write_job(folder, "twice", "SELECT 2 * n AS n FROM answer", "depends: answer")
    write_job(folder, "other", "SELECT 0 AS n")
    write_audit(folder, "right", "SELECT n FROM answer WHERE n > 41")
    assert {one.status for one in build(store, "twice", "other", folder=folder).values()} == {"built"}
    known = tables(store)

    write_job(folder, "answer", "SELECT 42 AS n", "audits: right")
    write_job(folder, "other", "SELECT 1 AS n")
    results = build(store, "twice", "other", folder=folder)
    assert {name: one.status for name, one in results.items()} == {
        "answer": "failed",
        "twice": "skipped",
        "other": "built",
    }
    assert "fails its audit right" in str(results["answer"].error)
    assert "{'n': 42}" in str(results["answer"].error)
    assert results["twice"].error == "depends on answer"
    assert rows(store, "SELECT a.n, t.n, o.n FROM answer a, twice t, other o") == [(41, 82, 1)]
    assert tables(store) == known, "nothing is left lying about"
    logged = rows(store, "SELECT job, rows, error FROM job_runs WHERE result = 'failed'")
    assert logged == [("answer", None, results["answer"].error)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT nothing FROM predictions", "nothing"),
        ("SELEKT 1", "syntax error"),
        ("SELECT error('too much') AS x", "too much"),
    ],
)
def test_sql_that_fails_names_the_job_and_keeps_the_old_table(
    store: Store, folder: Path, query: str, message: str
) -> None:
    build(store, "answer", folder=write_job(folder, "answer", "SELECT 41 AS n"))
    known = tables(store)
    result = build(store, "answer", folder=write_job(folder, "answer", query))["answer"]
    assert result.status == "failed"
    assert "job answer failed in the database" in str(result.error)
    assert message in str(result.error)
    assert rows(store, "FROM answer") == [(41,)]
    assert tables(store) == known


def test_a_described_column_must_be_made(store: Store, folder: Path) -> None:
    write_job(folder, "answer", "SELECT 41 AS n", "column m: What?")
    result = build(store, "answer", folder=folder)["answer"]
    assert "describes a column that it does not make" in str(result.error)
    assert "answer" not in tables(store)


def test_a_run_that_is_not_finished_is_refused_by_name_and_else_left_out(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(store, 2, "second")
    write_job(folder, "per_run", PER_RUN)
    before = contents(store)
    with pytest.raises(UserError, match=r"(?s)jobs need finished runs.*run second is running.*attattr run"):
        build(store, "per_run", runs=["first", "second"], folder=folder)
    assert contents(store) == before
    assert build(store, "per_run", folder=folder)["per_run"].status == "built"
    assert rows(store, "FROM per_run") == [(1, 8)]
    assert "left out, not finished: second" in caplog.text


def test_a_run_that_was_finished_before_keeps_its_rows(store: Store, folder: Path) -> None:
    add_run(store, "second")
    write_job(folder, "per_run", PER_RUN)
    build(store, "per_run", folder=folder)
    execute(store, "UPDATE runs SET status = 'running' WHERE name = 'second'", "DELETE FROM predictions")
    build(store, "per_run", folder=folder)
    assert rows(store, "FROM per_run") == [(2, 2)]
    write_job(folder, "per_run", PER_RUN.replace("AS n", "AS many"))
    assert "leave --run out" in str(build(store, "per_run", folder=folder)["per_run"].error)
    assert rows(store, "FROM per_run") == [(2, 2)]


def test_a_store_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 runs, none of them finished"):
        build(registered_store(tmp_path), "splits")


@pytest.mark.parametrize("runs", [(), ("first", "second")])
def test_runs_of_different_architectures_are_compared_among_themselves(
    store: Store, runs: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    add_run(store, "second", n_heads=4)
    # The rows are the case's; passes need a model.
    assert build(store, "head_universality", runs=runs)["splits"].status == "built"
    assert "head_universality compares only runs that agree in family, n_layers, n_heads" in caplog.text


def test_a_run_without_the_target_that_a_job_reads_is_named(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    build(store, "token_pairs", runs=["first"])
    assert "reads attributions" not in caplog.text
    add_run(store, "second", targets="gold")
    build(store, "token_pairs", "splits")
    assert "no rows: token_pairs reads attributions of the predicted class" in caplog.text
    assert "these runs lack: second (targets gold)" in caplog.text


def test_a_run_that_does_not_know_its_words_is_named(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    add_run(store, "second")
    execute(store, "UPDATE tokens SET word = position WHERE run_id = 1")
    execute(store, "UPDATE tokens SET word = NULL WHERE run_id = 2")
    build(store, "token_pairs")
    assert "no rows" not in caplog.text
    build(store, "token_pairs", params={"units": "words"})
    assert (
        "token_pairs takes words, which these runs of an earlier release do not know: second\n" in caplog.text
    )


def test_a_run_without_the_labels_that_a_job_needs_is_named(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add_run(store, "second")
    build(store, "splits")
    assert "no rows" not in caplog.text
    execute(store, "UPDATE examples SET gold = NULL WHERE run_id = 2")
    build(store, "splits")
    assert "no rows: splits takes rows with a gold label, which these runs lack: second" in caplog.text
    caplog.clear()
    build(store, "splits", runs=["first"])
    assert "no rows" not in caplog.text


def test_run_keeps_the_rows_of_other_runs(store: Store, folder: Path) -> None:
    add_run(store, "second")
    write_job(folder, "per_run", PER_RUN)
    pairs = "SELECT a.run_id AS run_a, b.run_id AS run_b, {} AS n FROM selected_runs a, selected_runs b"
    write_job(folder, "pairs", pairs.format(0))
    build(store, "per_run", "pairs", folder=folder)
    assert rows(store, "FROM per_run ORDER BY ALL") == [(1, 8), (2, 2)]

    execute(store, "DELETE FROM predictions WHERE example_id = 0")
    write_job(folder, "pairs", pairs.format(1))
    build(store, "per_run", "pairs", runs=["second"], folder=folder)
    assert rows(store, "FROM per_run ORDER BY ALL") == [(1, 8), (2, 1)]
    assert rows(store, "FROM pairs ORDER BY ALL") == [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 1)]
    build(store, "per_run", "pairs", folder=folder)
    assert rows(store, "FROM per_run ORDER BY ALL") == [(1, 7), (2, 1)]
    assert rows(store, "SELECT DISTINCT n FROM pairs") == [(1,)]


def test_a_pair_with_another_run_is_there_once(store: Store, folder: Path) -> None:
    add_run(store, "second")
    pairs = "SELECT a.run_id AS run_a, b.run_id AS run_b, {} AS n FROM selected_runs a, runs b"
    build(store, "pairs", folder=write_job(folder, "pairs", pairs.format(0)))
    write_job(folder, "pairs", pairs.format(1))
    build(store, "pairs", runs=["second"], folder=folder)
    assert rows(store, "FROM pairs ORDER BY ALL") == [(1, 1, 0), (1, 2, 0), (2, 1, 1), (2, 2, 1)]


def test_rows_about_no_run_are_not_heaped_up(store: Store, folder: Path) -> None:
    write_job(folder, "total", "SELECT NULL::INTEGER AS run_id, count(*) AS n FROM predictions")
    for _ in range(2):
        assert build(store, "total", runs=["first"], folder=folder)["total"].rows == 1


def test_rows_of_another_run_do_not_fail_an_audit(store: Store, folder: Path) -> None:
    add_run(store, "second")
    write_job(folder, "per_run", PER_RUN, "audits: few")
    write_audit(folder, "few", "SELECT run_id FROM per_run WHERE n > 9")
    build(store, "per_run", folder=folder)
    execute(store, "UPDATE per_run SET n = 10 WHERE run_id = 1")
    assert build(store, "per_run", runs=["second"], folder=folder)["per_run"].status == "built"
    write_audit(folder, "few", "SELECT run_id FROM per_run WHERE n > 7")
    result = build(store, "per_run", folder=folder)["per_run"]
    assert "fails its audit few" in str(result.error)


READER = """
import sys, duckdb
held = duckdb.connect(sys.argv[1], read_only=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_reader_who_holds_the_file_at_the_end_does_not_cost_the_results(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, calls = Store.checkpoint, []

    def beside_a_reader(self: Store) -> None:
        command = [sys.executable, "-c", READER, str(self.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "held\n"
            checkpoint(self)
            calls.append(self.path.with_name(f"{self.path.name}.wal").exists())
            reader.communicate()

    monkeypatch.setattr(Store, "checkpoint", beside_a_reader)
    write_job(folder, "per_run", PER_RUN)
    result = build(Store(store.path, timeout_s=0.5), "per_run", folder=folder)["per_run"]
    assert (result.status, result.rows) == ("built", 1)
    assert calls == [True], "the log is still there"
    assert rows(store, "FROM per_run") == [(1, 8)]


def test_rows_of_other_runs_cannot_stay_beside_other_columns(store: Store, folder: Path) -> None:
    add_run(store, "second")
    build(store, "per_run", folder=write_job(folder, "per_run", PER_RUN))
    write_job(folder, "per_run", PER_RUN.replace("AS n", "AS many"))
    result = build(store, "per_run", runs=["second"], folder=folder)["per_run"]
    assert "columns have changed" in str(result.error)
    assert "leave --run out" in str(result.error)
    assert rows(store, "SELECT n FROM per_run ORDER BY run_id") == [(8,), (2,)]
    assert build(store, "per_run", folder=folder)["per_run"].rows == 2


def test_a_table_may_become_a_view_and_a_view_outlives_a_refresh(store: Store, folder: Path) -> None:
    build(store, "shape", folder=write_job(folder, "shape", "SELECT 1 AS n"))
    build(store, "shape", folder=write_job(folder, "shape", "SELECT 2 AS n", materialized="view"))
    assert rows(store, "FROM shape") == [(2,)]
    assert rows(store, "SELECT view_name FROM duckdb_views() WHERE view_name = 'shape'") == [("shape",)]
    # As after an upgrade: the store's own views are not those that this version wants.
    execute(
        store,
        "UPDATE meta SET value = 'old' WHERE key = 'views_and_comments'",
        """UPDATE meta SET value = '["old", "shape"]' WHERE key = 'views'""",
        "CREATE VIEW old AS SELECT 1",
    )
    store.migrate()
    views = {name for (name,) in rows(store, "SELECT view_name FROM duckdb_views() WHERE NOT internal")}
    assert "shape" in views
    assert "old" not in views
    assert rows(store, "FROM shape") == [(2,)]
