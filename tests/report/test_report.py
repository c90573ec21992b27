"""The report: self-contained, escaped, with the numbers of the store and how to make them again."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.fabricate import (
    add_importance,
    commit,
    filled_store,
    new_store,
    register,
    registered_store,
)

from attattr_batch.analysis.runner import JobRequest, run_jobs
from attattr_batch.errors import UserError
from attattr_batch.report.figures import FIGURES
from attattr_batch.report.html import write_report
from attattr_batch.report.reproduce import commands, run_spec_yaml
from attattr_batch.spec import make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.runs import list_runs

SCRIPTS = re.compile(r"<script.*?</script>", flags=re.DOTALL)


def charts(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    document = json.loads(found[1])
    assert isinstance(document, dict)
    return document


def test_the_report_holds_every_figure_and_fetches_nothing(built_store: Store, tmp_path: Path) -> None:
    page = write_report(built_store, tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert set(charts(page)) == set(FIGURES) - {"heads"}
    assert "connect-src" not in page and "default-src 'none'" in page
    text = SCRIPTS.sub("", page)
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(|https?://""", text)


def test_figures_whose_job_is_not_run_say_which(tmp_path: Path) -> None:
    page = write_report(filled_store(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(charts(page)) == {"heads", "completeness", "nodes", "drift"}
    assert "attattr jobs run pruning_curve" in page
    assert '<td class="number">0.75</td>' in page, "accuracy of the fabricated run"


def test_a_run_newer_than_the_importances_shows_its_means(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "newer")
    commit(store, pass_id, range(4))
    add_importance(store)
    shown = charts(write_report(store, tmp_path / "report.html").read_text(encoding="utf-8"))
    for figure, run in (("importance", "first"), ("heads", "newer")):
        assert f'"{run}' in json.dumps(shown[figure])
        assert {"first": "newer", "newer": "first"}[run] not in json.dumps(shown[figure])


def test_names_and_tokens_cannot_leave_their_place(tmp_path: Path) -> None:
    store, evil = new_store(tmp_path), "</script><script>alert(1)</script>"
    _, pass_id = register(store, 4, name=evil, model=evil)
    commit(store, pass_id, range(4))
    page = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert evil not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script") == 4
    assert evil in json.dumps(charts(page))


def test_a_run_without_results_says_so(tmp_path: Path) -> None:
    page = write_report(registered_store(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert charts(page) == {}
    assert "there is nothing to draw" in page


def test_an_empty_store_and_a_bad_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run yet"):
        write_report(new_store(tmp_path), tmp_path / "report.html")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(filled_store(tmp_path), tmp_path)


def test_the_spec_in_the_report_asks_for_the_same_runs(built_store: Store) -> None:
    with built_store.read() as connection:
        runs = list_runs(connection)
        again = yaml.safe_load(run_spec_yaml(runs))["runs"]
        lines = commands(connection).splitlines()
    assert [make_spec(one) for one in again] == [make_spec(json.loads(run.config)) for run in runs]
    assert lines[0] == "attattr run runs.yaml"
    assert "--param head_replicates.replicates=5" in lines[1] and "seed" not in lines[1]


def build(store: Store, **request: Any) -> None:
    run_jobs(store, JobRequest(**request), lambda progress: None)


def test_the_commands_in_the_report_name_what_is_built_and_how(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    with store.read() as connection:
        assert not any("jobs run" in line for line in commands(connection).splitlines())
    build(store, names=["splits", "token_pairs"], params={"sample": "3"})
    with store.read() as connection:
        lines = commands(connection).splitlines()
    assert lines == [
        "attattr run runs.yaml",
        "attattr jobs run splits token_pairs --param splits.sample=3",
        "attattr verify",
        "attattr report -o report.html",
    ]
