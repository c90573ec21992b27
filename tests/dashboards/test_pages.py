"""What pages compute, without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.fabricate import add_importance, commit, execute, filled_store, new_store, register
from streamlit.testing.v1 import AppTest

from attattr_batch.analysis.diff import diff_runs
from attattr_batch.files import data_folder
from attattr_batch.report import palette
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import SqlFile, load_folder
from attattr_batch.store.reading import console


def opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    folder = data_folder("dashboards")
    monkeypatch.setenv("ATTATTR_DB", str(store.path))
    monkeypatch.syspath_prepend(str(folder))
    app = AppTest.from_file(str(folder / "app.py"), default_timeout=120).run()
    assert not app.exception
    return app


@pytest.fixture
def app(built_store: Store, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return opened(built_store, monkeypatch)


def ask(app: AppTest, sql: str) -> None:
    """Puts a query to the SQL page."""
    app.text_area(key="query").set_value(sql).run()
    (run,) = (button for button in app.button if button.label == "Run")
    run.click().run()
    assert not app.exception, (sql, app.exception)


def table_with(app: AppTest, column: str) -> Any:
    (found,) = (one.value for one in app.dataframe if column in one.value.columns)
    return found


def charted(app: AppTest, field: str) -> list[dict[str, Any]]:
    """Rows of the chart whose data have a field."""
    found: list[dict[str, Any]] = []
    for chart in app.get("vega_lite_chart"):
        data = chart.proto.data if chart.proto.data.data else chart.proto.datasets[0].data
        rows = pa.ipc.open_stream(data.data).read_all()
        found += rows.to_pylist() if field in rows.column_names else []
    return found


@pytest.mark.slow
def test_the_gold_class_reaches_histogram_and_strongest_examples(app: AppTest, built_store: Store) -> None:
    with built_store.read() as connection:
        query = (
            "SELECT r.labels[p.gold + 1], count(*) FROM predictions AS p JOIN runs AS r USING (run_id)"
            " WHERE r.name = 'sst2' GROUP BY ALL"
        )
        sizes = dict(map(tuple, connection.exec_driver_sql(query).all()))
    app.switch_page("screens/heads.py").run()
    assert sum(row["n"] for row in charted(app, "low")) == sum(sizes.values()) == 12
    assert set(table_with(app, "max Attr")["gold"]) == set(sizes) == {"negative", "positive"}
    for label, size in sizes.items():
        app.selectbox(key="class").set_value(label).run()
        assert not app.exception
        assert sum(row["n"] for row in charted(app, "low")) == size
        strongest = table_with(app, "max Attr")
        assert set(strongest["gold"]) == {label} and len(strongest) == size
        assert list(strongest["max Attr"]) == sorted(strongest["max Attr"], reverse=True)


@pytest.mark.slow
def test_a_comparison_is_made_on_request(app: AppTest, built_store: Store) -> None:
    app.switch_page("screens/compare.py").run()
    assert not any("part" in one.value.columns for one in app.dataframe)
    app.toggle(key="compare").set_value(True).run()
    assert not app.exception
    expected = diff_runs(built_store, "sst2", "mrpc").to_pylist()
    shown = table_with(app, "part")
    assert [tuple(row) for row in shown[["part", "name"]].to_numpy()] == [
        (row["part"], row["name"]) for row in expected
    ]
    app.toggle(key="compare").set_value(False).run()
    assert not any("part" in one.value.columns for one in app.dataframe)


@pytest.mark.slow
def test_heads_of_a_run_newer_than_the_importances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "newer")
    commit(store, pass_id, range(4))
    add_importance(store)
    app = opened(store, monkeypatch)
    app.switch_page("screens/heads.py").run()
    sizes = {}
    for run in ("first", "newer"):
        app.selectbox(key="run").set_value(run).run()
        assert not app.exception
        numbers = table_with(app, "importance")
        assert set(numbers["run"]) == {run}
        sizes[run] = (set(numbers["n"]), numbers["ci_high"].notna().all())
    assert sizes == {"first": ({8}, True), "newer": ({4}, False)}


@pytest.mark.slow
def test_a_criterion_that_is_new_to_head_importance_is_on_its_pages(
    app: AppTest, built_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(palette.CRITERION_COLOURS, "ours", "#000000")
    monkeypatch.setitem(palette.IMPORTANCE, "ours", "our own measure")
    ours = "SELECT * REPLACE ('ours' AS criterion) FROM {} WHERE criterion = 'attattr'"
    for table in ("head_importance", "head_universality"):
        execute(built_store, f"INSERT INTO {table} {ours.format(table)}")
    known = [
        "attattr",
        "attattr_positive_sum",
        "attattr_absolute_sum",
        "attattr_uniform",
        "attattr_mean",
        "attattr_idg",
        "taylor",
        "taylor_normalised",
        "taylor_released",
        "attention",
        "accuracy_difference",
        "probability_difference",
        "ours",
    ]
    for page, figure in (("heads", "importance"), ("universality", "importance_a")):
        app.switch_page(f"screens/{page}.py").run()
        assert sorted(app.selectbox(key="criterion").options) == sorted(known)
        app.selectbox(key="criterion").set_value("ours").run()
        assert not app.exception
        assert len(charted(app, figure) if page == "heads" else table_with(app, figure)) == 16


@pytest.mark.slow
def test_of_many_runs_figures_show_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    names = [f"run-{number}" for number in range(10)]
    for name in names:
        _, pass_id = register(store, 2, name, run_key=name)
        commit(store, pass_id, range(2))
    app = opened(store, monkeypatch)
    assert list(table_with(app, "truncated")["run"]) == names
    assert set(table_with(app, "worst")["run"]) == set(names[2:])
    assert any("The 8 newest of 10 runs" in one.value for one in app.caption)
    app.multiselect(key="runs").set_value(names[:2]).run()
    assert set(table_with(app, "worst")["run"]) == set(names[:2])


@pytest.mark.slow
def test_progress_is_of_the_runs_chosen_and_says_when_the_last_commit_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "killed")
    commit(store, pass_id, range(2))
    execute(
        store, f"UPDATE ledger SET committed_at = committed_at - INTERVAL 3 HOUR WHERE pass_id = {pass_id}"
    )
    app = opened(store, monkeypatch)
    (bar,) = app.get("progress")
    assert re.fullmatch(r"killed, attribute: 2 of 4; last commit 3:00:\d\d ago", bar.proto.text)
    assert any("nothing writes any more" in one.value for one in app.caption)
    app.multiselect(key="runs").set_value(["first"]).run()
    assert list(app.get("progress")) == []
    assert any("Every pass of these runs is finished." in one.value for one in app.caption)


@pytest.mark.slow
def test_pages_of_a_run_that_is_labelled_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path)
    execute(
        store,
        "UPDATE predictions SET gold = NULL, prob_gold = NULL WHERE example_id < 2",
        # A tokenizer whose vocabulary lacks an id that it gives.
        "DELETE FROM vocabulary WHERE token_id = (SELECT token_id FROM tokens WHERE position = 1 LIMIT 1)",
    )
    app = opened(store, monkeypatch)
    app.switch_page("screens/examples.py").run()
    assert list(table_with(app, "example")["example"]) == list(range(8))
    tokens = app.code[0].value.split()
    assert len(tokens) == 5 and tokens[1].isdigit()
    for box, value, expected in (
        ("gold", "negative", [2, 4, 6]),
        ("answer", "correct", [2, 4, 5, 6]),
        ("answer", "wrong", [3, 7]),
    ):
        app.selectbox(key=box).set_value(value).run()
        assert list(table_with(app, "example")["example"]) == expected
        app.selectbox(key=box).set_value("any").run()

    app = opened(store, monkeypatch)
    app.switch_page("screens/heads.py").run()
    app.selectbox(key="class").set_value("negative").run()
    assert sum(row["n"] for row in charted(app, "low")) == 3
    assert set(table_with(app, "importance")["n"]) == {3}
    assert set(table_with(app, "max Attr")["example"]) == {2, 4, 6}

    app.switch_page("screens/compare.py").run()
    drift = table_with(app, "made")
    assert list(drift["n"]) == [6]
    assert drift[["ci_low", "ci_high"]].to_numpy()[0] == pytest.approx([0.299993, 0.903229], abs=1e-5)


@pytest.mark.parametrize(
    "saved", load_folder(data_folder("dashboards") / "queries"), ids=lambda file: file.name
)
def test_every_saved_query_answers(built_store: Store, saved: SqlFile) -> None:
    assert console.query(built_store.path, saved.query).rows


@pytest.mark.slow
def test_the_console_gives_a_query_twenty_seconds(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is as it would be after them, but they are half a second here."""
    deadlines: list[float] = []

    def sooner(path: Path, sql: str, *, timeout_s: float, **rest: int) -> console.QueryResult:
        deadlines.append(timeout_s)
        return console_query(path, sql, timeout_s=0.5, **rest)

    console_query = console.query
    monkeypatch.setattr(console, "query", sooner)
    app.switch_page("screens/sql.py").run()
    ask(app, "SELECT count(*) FROM range(100000000000) a, range(100000) b")
    assert ["longer than 0.5 s" in one.value for one in app.info] == [True]
    assert deadlines == [20.0]


@pytest.mark.slow
def test_the_console_shows_columns_of_every_type(app: AppTest) -> None:
    app.switch_page("screens/sql.py").run()
    for value, shown in {
        "['negative', 'positive']": "['negative', 'positive']",
        "{'a': 1}": "{'a': 1}",
        "INTERVAL 36 HOUR": "1 day, 12:00:00",
        "'101'::BIT": "b'\\x05\\xfd'",
        "'b'::ENUM('a', 'b')": "b",
        "true": "True",
    }.items():
        ask(app, f"SELECT {value} AS v, 1 AS n")
        # As the browser is given it: it cannot read every type.
        assert str(app.dataframe[0].value.iloc[0, 0]) == shown
    ask(app, "SELECT 1 AS a, 2 AS a, 3 AS a_1")
    assert list(table_with(app, "a").columns) == ["a", "a_1", "a_1_1"]
