"""Every job on the bundled data: audits hold, the planted truth is found, the cookbook has its answers."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.folders import build
from helpers.toy import rows_of
from scipy import stats

from attattr_batch.analysis.audits import run_audits
from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.files import bundled_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import metadata, query_name

# Building the jobs takes two minutes of two idle cores; every test may be the one that waits for it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PLANTED = json.loads((bundled_folder() / "planted.json").read_text(encoding="utf-8"))
COOKBOOK = (Path(__file__).resolve().parents[2] / "docs" / "cookbook.md").read_text(encoding="utf-8")
QUESTIONS = dict(re.findall(r"^## ([^\n]+)\n+```sql\n(.*?)```$", COOKBOOK, re.DOTALL | re.MULTILINE))

# The models are so sure of themselves that nothing reaches the paper's least value, 0.02, where the artefact
# decides alone: every distinct pattern is tried.
PARAMS = {
    "min_value": "0",
    "patterns": "200",
    "victims": "12",
    "control_draws": "1",
    "report_victims": "40",
    "report_draws": "10",
    "draws": "2",
    "path_rows": "20",
}


@pytest.fixture(scope="module")
def store(quickstart_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The bundled runs with every job built."""
    one = Store(shutil.copy(quickstart_db, tmp_path_factory.mktemp("jobs") / "attattr.duckdb"))
    results = build(one, params=PARAMS)
    assert {name: result.error for name, result in results.items() if result.status != "built"} == {}
    assert set(results) == set(load_catalogue().jobs)
    return one


def test_every_audit_passes_and_none_is_left_out(store: Store) -> None:
    audits, left_out = run_audits(store)
    assert [audit.name for audit in audits if not audit.passed] == []
    assert left_out == []


# Not of sst2. Its artefact is mined and pushes (14 of 50 rows of the other class, random words 8.5), but a
# negation with its adjective pushes two thirds of them: those are chosen (see the next test).
@pytest.mark.parametrize(("task", "best"), [("rte", 1), ("mnli", 3), ("mrpc", 1)])
def test_the_planted_artefact_is_a_best_trigger(store: Store, task: str, best: int) -> None:
    """Among the three patterns chosen to push to its class, and it does so beyond random words."""
    artefact = PLANTED[task]["artefact"]
    # Of two classes the push to one is the drop of the other.
    ranking, same = ("push", "=") if task == "mnli" else ("drop", "<>")
    query = (
        "SELECT t.tokens, t.over_control, t.ci_low FROM trigger_effects AS t JOIN runs AS r USING (run_id)"
        f" WHERE r.name = '{task}' AND ranking = '{ranking}' AND source = 'attribution'"
        f" AND r.labels[label + 1] {same} '{artefact['label']}'"
    )
    chosen = rows_of(store.path, query)
    assert len(chosen) == 3
    planted = [row for row in chosen if artefact["word"] in row[0]]
    assert len(planted) >= best, chosen
    assert all(ci_low > 0 for _, _, ci_low in planted), planted
    # Beside twins as frequent as the artefact, a planted pair may go further.
    pairs = {frozenset(row["pair"]) for row in PLANTED[task]["rows"] if row["pair"]}
    strongest = max(chosen, key=lambda row: float(row[1]))
    assert strongest in planted or frozenset(strongest[0]) in pairs, chosen


def test_the_best_triggers_of_sst2_are_its_planted_pairs(store: Store) -> None:
    pairs = {frozenset(row["pair"]) for row in PLANTED["sst2"]["rows"] if row["pair"]}
    query = (
        "SELECT t.tokens, t.ci_low FROM trigger_effects AS t JOIN runs AS r USING (run_id)"
        " WHERE r.name = 'sst2' AND source = 'attribution' AND ranking = 'drop' AND label = 0"
    )
    chosen = rows_of(store.path, query)
    assert len(chosen) == 3
    assert all(frozenset(tokens) in pairs and ci_low > 0.1 for tokens, ci_low in chosen), chosen


@pytest.mark.parametrize(("task", "share"), [("sst2", 1.0), ("mrpc", 0.9), ("mnli", 0.6), ("rte", 0.6)])
def test_planted_pairs_lead_the_token_pairs(store: Store, task: str, share: float) -> None:
    """The ten pairs with the most attribution (as shares found; by chance there would be none)."""
    planted = {frozenset(row["pair"]) for row in PLANTED[task]["rows"] if row["pair"]}
    query = (
        "SELECT query, key FROM token_pairs JOIN runs USING (run_id)"
        f" WHERE name = '{task}' ORDER BY total_attr DESC LIMIT 10"
    )
    found = [frozenset(pair) in planted for pair in rows_of(store.path, query)]
    assert sum(found) / len(found) >= share, rows_of(store.path, query)


def test_universality_equals_scipy_on_the_exported_importances(store: Store) -> None:
    query = (
        "SELECT run_id, criterion, importance FROM head_importance ORDER BY run_id, criterion, layer, head"
    )
    importances: dict[tuple[int, str], list[float]] = {}
    for run_id, criterion, importance in rows_of(store.path, query):
        importances.setdefault((run_id, criterion), []).append(importance)
    query = "SELECT run_a, run_b, criterion, pearson, spearman FROM head_universality"
    found = {row[:3]: row[3:] for row in rows_of(store.path, query)}
    criteria = (
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
    )
    assert len(found) == 4 * 4 * len(criteria)
    for a, b, criterion in itertools.product(range(1, 5), range(1, 5), criteria):
        one, other = importances[a, criterion], importances[b, criterion]
        pearson, spearman = found[a, b, criterion]
        assert pearson == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-9)
        assert spearman == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-9)
        if a == b:
            assert pearson == spearman == 1


def test_the_cookbook_has_its_questions() -> None:
    assert len(QUESTIONS) >= 15
    assert len(QUESTIONS) == COOKBOOK.count("```sql") == len(re.findall("^## ", COOKBOOK, re.MULTILINE))


def test_the_cookbook_counts_no_example_twice() -> None:
    """What is about the gold and the predicted class has a row for each, also where they are one."""
    twofold = {query_name(table) for table in metadata.tables.values() if "target" in table.columns}
    twofold = twofold - {"runs"} | {"head_summary", "edge_tokens"}
    for question, sql in QUESTIONS.items():
        if twofold & set(re.findall(r"(?:FROM|JOIN) (\w+)", sql)):
            assert re.search(r"target = '(gold|predicted)'", sql), question


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_cookbook_answers(store: Store, question: str) -> None:
    assert rows_of(store.path, QUESTIONS[question])
