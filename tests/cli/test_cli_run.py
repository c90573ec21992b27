"""`attattr run` and the commands that look at what it made, on good and on odd input."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.calling import Cli, fill
from helpers.toy import MAX_TOKENS, N_HEADS, N_LAYERS, attattr, rows_of, toy_rows, write_sst2

from attattr_batch.cli.logs import set_up_logging

N_DEV = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue"), dev=toy_rows(N_DEV, seed=1))


@pytest.fixture(scope="module")
def filled(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("filled") / "store.duckdb"
    fill(db, model, data, N_DEV)
    return db


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], filled: Path, tmp_path: Path) -> Cli:
    """The command line over a copy of a store with the run `first`."""
    return Cli(capsys, Path(shutil.copy(filled, tmp_path / "store.duckdb")))


@pytest.fixture
def new(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line over a store that is not there yet."""
    return Cli(capsys, tmp_path / "new.duckdb")


Arguments = Callable[..., list[object]]


@pytest.fixture
def run(model: Path, data: Path) -> Arguments:
    """Arguments of the run, with more behind them."""
    return lambda *more: ["run", "--task", "sst2", "--model", model, "--data-dir", data, *more]


# Runs


def test_a_run_says_what_it_did_and_the_same_again_does_nothing(new: Cli, run: Arguments) -> None:
    answer = new(*run())
    assert (answer.code, answer.out) == (0, "")
    assert f"run sst2-toy (1) in {new.db}: {N_DEV} of {N_DEV} examples, accuracy 0." in answer.err
    assert "largest completeness error" in answer.err
    assert f"next: attattr status --db {new.db}" in answer.err
    facts = "SELECT * FROM head_scores ORDER BY ALL"
    before = rows_of(new.db, facts)
    assert len(before) == N_DEV * N_LAYERS * N_HEADS * 2, "gold and predicted"
    again = new(*run())
    assert again.code == 0
    assert f"run sst2-toy (1) in {new.db}: complete, nothing to do; {N_DEV} of {N_DEV}" in again.err
    assert rows_of(new.db, facts) == before


def test_rows_that_miss_the_tolerance_are_kept_counted_and_an_exit_code(new: Cli, run: Arguments) -> None:
    answer = new(*run("--tolerance", "1e-12", "--limit", 2))
    assert answer.code == 1, "float32 cannot meet it"
    assert f"rows missed the tolerance: attattr verify --db {new.db}" in answer.err
    ((committed, uncertified),) = rows_of(new.db, "SELECT committed, uncertified FROM run_summary")
    assert committed == 2
    assert uncertified > 0
    assert new("verify").code == 1


def test_truncated_examples_are_counted(new: Cli, run: Arguments) -> None:
    answer = new(*run("--max-length", 8, "--limit", 5))
    ((truncated, counted),) = rows_of(
        new.db,
        "SELECT count(*) FILTER (p.truncated), any_value(s.truncated) FROM predictions AS p"
        " JOIN run_summary AS s USING (run_id)",
    )
    assert 0 < truncated == counted
    assert (answer.code, answer.err.count(f"{truncated} truncated: longer than --max-length")) == (0, 1)
    assert " truncated: " not in new(*run()).err


def test_json_on_stdout_and_the_rest_on_stderr(new: Cli, run: Arguments) -> None:
    answer = new(*run("--format", "json", "--limit", 5))
    (summary,) = json.loads(answer.out)
    assert summary["name"] == "sst2-toy"
    counts = {key: summary[key] for key in ("n_examples", "committed", "newly_committed", "quarantined")}
    assert counts == {"n_examples": 5, "committed": 5, "newly_committed": 5, "quarantined": 0}
    assert summary["correct"] == summary["accuracy"] * 5
    assert summary["worst_completeness_error"] < 1e-3
    assert "5 of 5 examples" in answer.err
    assert new(*run("--limit", 5, "--quiet")) == (0, "", "")


def test_stderr_is_json_lines_where_they_are_asked_for(
    new: Cli, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text('{"sentence": "a good film", "label": 1}\n{"sentence": "", "label": 0}\n')
    run = ["run", "--task", "sst2", "--model", model, "--dataset", table, "--log-format", "json"]
    try:
        told = [json.loads(line) for line in new(*run, "--name", "own").err.splitlines()]
        refused = [json.loads(line) for line in new.refuses(*run, "--limit", 0).splitlines()]
    finally:
        set_up_logging()
    (line,) = (line for line in told if line["message"].startswith("run own (1)"))
    assert (line["run"], line["n_examples"], line["committed"], line["quarantined"]) == ("own", 2, 1, 1)
    assert any(line["message"].startswith("next: ") for line in told)
    (line,) = refused
    assert line["level"] == "error" and "limit" in line["message"]


def test_other_settings_are_other_runs(cli: Cli, run: Arguments) -> None:
    assert cli(*run("--limit", 3)).code == 0
    assert cli(*run("--limit", 3, "--quadrature", "left-riemann", "--nodes", 20)).code == 0
    assert cli(*run("--limit", 3, "--target", "gold")).code == 0
    # Where and how fast it is computed is not part of a run's identity, nor is its name.
    same = cli(*run("--limit", 3, "--batch-tokens", 128, "--device", "cpu", "--name", "again"))
    assert "nothing to do" in same.err
    assert "these settings are run 'sst2-toy' already; the name 'again' is not used" in same.err
    assert "is not used" not in cli(*run("--limit", 3, "--name", "sst2-toy")).err
    names = [name for (name,) in rows_of(cli.db, "SELECT name FROM runs ORDER BY run_id")]
    assert names[:2] == ["first", "sst2-toy"]
    assert all(name.startswith("sst2-toy-") for name in names[2:])
    assert len(names) == 4


def test_a_name_in_use_is_refused(cli: Cli, run: Arguments) -> None:
    message = cli.refuses(*run("--limit", 3, "--name", "first"))
    assert "already has this name" in message
    assert "attattr rm first" in message


def test_a_spec_of_several_runs(new: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    spec = tmp_path / "glue" / "spec.yaml"
    shutil.copytree(data, spec.parent)
    shutil.copytree(model, spec.parent / "my-model")
    spec.write_text(
        "defaults: {task: sst2, model: my-model, data_dir: ., limit: 4}\n"
        "runs: [{name: both}, {name: gold, target: gold, limit: 2}]\n"
    )
    answer = new("run", spec, "--format", "csv")
    assert answer.code == 0, answer.err
    table = list(csv.DictReader(io.StringIO(answer.out)))
    assert [(row["name"], row["committed"]) for row in table] == [("both", "4"), ("gold", "2")]
    # A flag wins over the file.
    new.db = tmp_path / "other.duckdb"
    answer = new("run", spec, "--limit", 1, "--format", "json")
    assert [(row["name"], row["n_examples"]) for row in json.loads(answer.out)] == [("both", 1), ("gold", 1)]
    # Runs without names have one in the store, and in the metrics.
    spec.write_text(spec.read_text().replace("name: both", "").replace("name: gold, ", ""))
    new.db, metrics = tmp_path / "unnamed.duckdb", tmp_path / "attattr.prom"
    assert new("run", spec, "--metrics", metrics).code == 0
    names = [name for (name,) in rows_of(new.db, "SELECT name FROM runs ORDER BY run_id")]
    told = [line for line in metrics.read_text().splitlines() if line.startswith("attattr_examples{")]
    assert told == [f'attattr_examples{{run="{name}"}} {n}' for name, n in zip(names, (4, 2), strict=True)]


def test_empty_texts_are_quarantined_and_the_rest_is_committed(new: Cli, model: Path, tmp_path: Path) -> None:
    rows = [("a good film", 1), ("", 0), ("a bad film", 0), (" \u3000 ", 1)]
    run = ["run", "--task", "sst2", "--model", model, "--data-dir", write_sst2(tmp_path / "odd", dev=rows)]
    answer = new(*run, "--format", "json")
    assert answer.code == 1
    (summary,) = json.loads(answer.out)
    assert (summary["committed"], summary["quarantined"]) == (2, 2)
    assert f"2 quarantined: attattr status --db {new.db}" in answer.err
    assert rows_of(new.db, "SELECT example_id, message FROM quarantine ORDER BY ALL") == [
        (1, "empty text"),
        (3, "empty text"),
    ]
    assert "nothing to do" not in answer.err
    status = new("status")
    assert status.out.count("empty text") == 2
    assert "quarantined (2)" in status.err
    for again in (run, [*run, "--retry-errors"]):
        answer = new(*again)
        assert (answer.code, "2 of 4 examples" in answer.err) == (1, True)
        assert "complete, nothing to do" in answer.err
    assert new("verify").code == 0
    assert rows_of(new.db, "SELECT example_id FROM ledger ORDER BY ALL") == [(0,), (2,)]


def test_a_run_of_which_nothing_can_be_computed_says_so(new: Cli, model: Path, tmp_path: Path) -> None:
    data = write_sst2(tmp_path / "empty", dev=[("", 0), (" ", 1), ("", 1)])
    answer = new("run", "--task", "sst2", "--model", model, "--data-dir", data)
    assert answer.code == 1
    assert "0 of 3 examples\n" in answer.err
    assert "3 quarantined: attattr status" in answer.err
    assert "nothing to do" not in answer.err
    assert "no gold labels" not in answer.err


def test_odd_texts_are_fine(new: Cli, model: Path, tmp_path: Path) -> None:
    texts = [
        "a \U0001f600 film \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "good " * 2000,
        "g" * 10_000,
        "\u200b",  # nothing that the tokenizer sees
        'a "quoted, [bold] film',
        "a\u2028b\u0085c \x1b[31m \x00 d",
        "\u0627\u0644\u0641\u064a\u0644\u0645 \u7535\u5f71",
    ]
    data = write_sst2(tmp_path / "odd", dev=[(text, 1) for text in texts])
    answer = new("run", "--task", "sst2", "--model", model, "--data-dir", data)
    assert answer.code == 1, answer.err
    assert rows_of(new.db, "SELECT text_a FROM examples ORDER BY example_id") == [(t.strip(),) for t in texts]
    lengths = rows_of(new.db, "SELECT example_id, n_tokens, truncated FROM predictions ORDER BY example_id")
    assert [example_id for example_id, *_ in lengths] == [0, 1, 2, 4, 5, 6]
    assert lengths[1] == (1, MAX_TOKENS, True)
    assert lengths[2] == (2, 3, False), "one unknown word"
    assert rows_of(new.db, "SELECT example_id, message FROM quarantine") == [(3, "empty text")]
    assert new("verify").code == 0
    shown = new("sql", "SELECT text_a FROM examples ORDER BY example_id", "--format", "json")
    assert [row["text_a"] for row in json.loads(shown.out)] == [text.strip() for text in texts]
    assert "[bold]" in new("sql", "SELECT text_a FROM examples WHERE example_id = 4").out


def test_a_split_without_labels(new: Cli, model: Path, tmp_path: Path) -> None:
    data = write_sst2(tmp_path / "unlabelled", dev=[])
    (data / "SST-2" / "test.tsv").write_text("index\tsentence\n0\ta good film\n1\ta bad film\n")
    run = ["run", "--task", "sst2", "--model", model, "--data-dir", data, "--split", "test"]
    answer = new(*run)
    assert answer.code == 0
    assert "the predicted class alone is attributed" in answer.err
    assert "no gold labels" in answer.err
    assert rows_of(new.db, "SELECT DISTINCT target FROM head_scores") == [("predicted",)]


def test_accuracy_below_chance_is_pointed_out(new: Cli, filled: Path, model: Path, tmp_path: Path) -> None:
    answers = rows_of(filled, "SELECT text_a, predicted FROM predictions JOIN examples USING (example_id)")
    assert {label for _, label in answers} == {0, 1}
    data = write_sst2(tmp_path / "swapped", dev=[(text, 1 - label) for text, label in answers])
    answer = new("run", "--task", "sst2", "--model", model, "--data-dir", data)
    assert answer.code == 0
    assert "accuracy 0.0000" in answer.err
    assert "accuracy is below chance" in answer.err
    assert "label_map" in answer.err


# Looking, and taking away


def test_status_runs_and_sql(cli: Cli) -> None:
    (row,) = json.loads(cli("status", "--format", "json").out)
    assert (row["run"], row["status"], row["committed"], row["total"]) == ("first", "sealed", N_DEV, N_DEV)
    (row,) = json.loads(cli("runs", "--format", "json").out)
    assert (row["name"], row["n_layers"], row["n_heads"]) == ("first", N_LAYERS, N_HEADS)
    query = "SELECT count(*) AS n, sum(attr_max) AS s, NULL AS nothing FROM head_scores WHERE target = 'gold'"
    (row,) = json.loads(cli("sql", query, "--format", "json").out)
    assert (row["n"], row["nothing"]) == (N_DEV * N_LAYERS * N_HEADS, None)
    assert cli("sql", "SELECT 1 AS a, 'x,y' AS b", "--format", "csv").out == 'a,b\n1,"x,y"\n'
    limited = cli("sql", "SELECT * FROM range(100)", "--limit", 3, "--format", "csv")
    assert limited.out == "range\n0\n1\n2\n"
    assert "only the first 3 rows" in limited.err


def test_the_store_can_be_named_by_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTATTR_DB", str(cli.db))
    assert "first" in cli.bare("runs").out


def test_rm(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    answer = cli("rm", "first")
    assert (answer.code, "nothing was changed" in answer.err) == (1, True)
    assert rows_of(cli.db, "SELECT count(*) FROM ledger") == [(N_DEV,)]
    assert "deleted first" in cli("rm", "1", "-y").err
    for table in ("runs", "ledger", "examples", "head_scores", "edges"):
        assert rows_of(cli.db, f"SELECT count(*) FROM {table}") == [(0,)]


def test_verify_finds_a_lost_row(cli: Cli) -> None:
    import duckdb

    answer = cli("verify", "--format", "json")
    assert answer.code == 0
    assert {row["result"] for row in json.loads(answer.out)} == {"ok"}
    with duckdb.connect(cli.db) as connection:
        connection.execute("DELETE FROM head_scores_dedup WHERE example_id = 3 AND layer = 1 AND head = 0")
    answer = cli("verify")
    assert answer.code == 1
    assert "FAILED" in answer.out
    assert "ledger_and_facts: first 1 of 1 offending rows" in answer.err


def test_export_and_snapshot(cli: Cli, tmp_path: Path) -> None:
    answer = cli("export", "first", "--to", tmp_path / "out")
    assert (answer.code, answer.out) == (0, "")
    assert str(tmp_path / "out" / "README.md") in answer.err
    exported = pq.read_table(tmp_path / "out" / "head_scores.parquet")
    assert exported.num_rows == len(rows_of(cli.db, "SELECT 1 FROM head_scores"))
    copy = tmp_path / "copy.duckdb"
    assert cli("snapshot", copy).code == 0
    everything = "SELECT * FROM edges ORDER BY ALL"
    assert rows_of(copy, everything) == rows_of(cli.db, everything)


def test_doctor(cli: Cli) -> None:
    answer = cli("doctor", "--format", "json")
    rows = {row["what"]: row for row in json.loads(answer.out)}
    assert {"python", "torch", "duckdb", "ray", "devices", "store"} <= set(rows)
    assert rows["store"]["result"] == "ok"
    assert "1 runs" in rows["store"]["detail"]
    assert (answer.code, {row["result"] for row in rows.values()}) == (0, {"ok"})
    cli.db.write_text("no store")
    answer = cli("doctor", "--format", "json")
    (store,) = [row for row in json.loads(answer.out) if row["what"] == "store"]
    assert (answer.code, store["result"]) == (1, "FAILED")
    assert "not a DuckDB database" in store["detail"]
    cli.db = cli.db.with_name("nowhere") / "new.duckdb"
    answer = cli("doctor", "--format", "json")
    (store,) = [row for row in json.loads(answer.out) if row["what"] == "store"]
    assert (answer.code, store["result"]) == (1, "FAILED"), "attattr run does not make the folder"
    assert "there is no folder" in store["detail"]


# The installed command


@pytest.mark.slow
def test_the_installed_command(new: Cli, run: Arguments, tmp_path: Path) -> None:
    done = attattr(*run("--db", new.db, "--format", "json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["committed"] == N_DEV
    # Nothing of a library's leave-taking after our own last line.
    assert done.stderr.splitlines()[-1].startswith(f"run sst2-toy (1) in {new.db}: {N_DEV} of {N_DEV}")
    refused = attattr("sql", "SELEC", "--db", new.db)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
    shown = attattr("sql", "SELECT count(*) AS n FROM ledger", "--db", new.db, "--format", "json")
    assert json.loads(shown.stdout) == [{"n": N_DEV}]
