"""The main job on the bundled data: what lands in the store is right, and the planted truth is found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import attattr_batch
from attattr_batch.analysis.audits import run_audits
from attattr_batch.files import bundled_folder, data_folder
from attattr_batch.runtime.run import RunSummary, run_spec
from attattr_batch.spec import make_spec
from attattr_batch.spec_file import load_spec
from attattr_batch.store.database.connection import Store

PLANTED = json.loads((bundled_folder() / "planted.json").read_text(encoding="utf-8"))
N_LAYERS = N_HEADS = 4


@pytest.fixture(scope="module")
def quickstart(
    quickstart_db: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, dict[str, RunSummary]]:
    """The bundled runs; each is complete, so that running it once more says what it came to."""
    store = Store(shutil.copy(quickstart_db, tmp_path_factory.mktemp("copy") / "attattr.duckdb"))
    specs = load_spec(data_folder("jobs") / "runs" / "quickstart.yaml")
    summaries = [run_spec(spec, store, lambda progress: None) for spec in specs]
    return store, {summary.name: summary for summary in summaries}


def ask(store: Store, sql: str, *values: object) -> list[tuple[object, ...]]:
    with store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql, tuple(values)).all()]


@pytest.mark.slow
def test_every_example_is_committed_and_every_row_certified(
    quickstart: tuple[Store, dict[str, RunSummary]],
) -> None:
    store, summaries = quickstart
    for task, summary in summaries.items():
        assert summary.committed == summary.n_examples == len(PLANTED[task]["rows"])
        assert summary.quarantined == summary.uncertified == 0
        assert summary.worst_completeness_error is not None
        assert summary.worst_completeness_error <= 1e-3
        assert 0.9 < (summary.accuracy or 0) < 1, "some predictions differ from gold, as planted"
        for target in ("gold", "predicted"):
            query = "SELECT count(*) FROM head_scores WHERE run_id = ? AND target = ?"
            assert ask(store, query, summary.run_id, target) == [(summary.n_examples * N_LAYERS * N_HEADS,)]
    audits, _ = run_audits(store)
    assert [audit.name for audit in audits if not audit.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sst2", "mrpc", "rte", "mnli"])
def test_the_planted_pair_is_the_strongest_edge_of_a_head(
    quickstart: tuple[Store, dict[str, RunSummary]], task: str
) -> None:
    store, _ = quickstart
    correct = {
        row[0]
        for row in ask(
            store,
            "SELECT example_id FROM predictions JOIN runs USING (run_id) WHERE name = ? AND gold = predicted",
            task,
        )
    }
    strongest: dict[object, set[frozenset[object]]] = {}
    query = (
        "SELECT example_id, query_pos, key_pos FROM edges JOIN runs USING (run_id)"
        " WHERE name = ? AND edges.target = 'gold' AND rank = 0"
    )
    for example_id, query_pos, key_pos in ask(store, query, task):
        strongest.setdefault(example_id, set()).add(frozenset((query_pos, key_pos)))
    planted = {
        row["example_id"]: frozenset(row["positions"])
        for row in PLANTED[task]["rows"]
        if row["positions"] and not row["artefact"] and row["example_id"] in correct
    }
    found = sum(pair in strongest[example_id] for example_id, pair in planted.items())
    # By chance: at most 16 heads' strongest edges among some two hundred unordered pairs.
    assert len(planted) >= 40
    assert found / len(planted) >= 0.7, f"{found} of {len(planted)}"


@pytest.mark.slow
def test_stored_numbers_are_those_of_the_store_less_call(
    quickstart: tuple[Store, dict[str, RunSummary]],
) -> None:
    store, _ = quickstart
    text, gold = ask(store, "SELECT text_a, gold FROM examples WHERE run_id = 1 AND example_id = 3")[0]
    model = str(bundled_folder() / "models" / "sst2")
    result = attattr_batch.attribute(model, None, str(text), label=int(str(gold)))
    stored = ask(
        store,
        "SELECT layer, head, attr_max, attr_sum FROM head_scores"
        " WHERE run_id = 1 AND example_id = 3 AND target = 'gold' ORDER BY layer, head",
    )
    largest = np.abs(result.scores).max()
    for layer, head, attr_max, attr_sum in stored:
        scores = result.scores[int(str(layer)), int(str(head))]
        assert abs(scores.max() - float(str(attr_max))) <= 1e-4 * largest
        assert abs(scores.sum() - float(str(attr_sum))) <= 1e-4 * largest


@pytest.mark.slow
def test_the_same_settings_again_are_a_no_op_and_others_are_a_new_run(
    quickstart: tuple[Store, dict[str, RunSummary]],
) -> None:
    store, summaries = quickstart
    spec = make_spec({"task": "rte", "model": "bundled", "data_dir": "bundled", "name": "another-name"})
    again = run_spec(spec, store, lambda progress: None)
    assert (again.run_id, again.name, again.newly_committed) == (summaries["rte"].run_id, "rte", 0)
    changed = make_spec(spec.flat() | {"limit": 2, "top_k": 1, "name": "rte-two"})
    new = run_spec(changed, store, lambda progress: None)
    assert new.run_id not in {summary.run_id for summary in summaries.values()}
    assert new.newly_committed == 2
