"""Passes that jobs order: each has its own answers; another order replaces them, a bad one fails alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from folders import build, write_job
from toy import rows_of, toy_model, toy_rows, write_sst2

from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import make_spec
from attattr_batch.store.connection import Store

N_ROWS = 60
ORDER = "SELECT 1 AS run_id, '{}' AS mask, [0, 5] AS example_ids, {} AS heads"


@dataclass(frozen=True)
class Filled:
    """A store with a run of a toy model, and that model."""

    db: Path
    model: Path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled")
    model = toy_model(folder / "model")
    data = write_sst2(folder / "glue", dev=toy_rows(N_ROWS, seed=1))
    settings = {"task": "sst2", "model": str(model), "data_dir": str(data), "name": "toy"}
    store = Store(folder / "store.duckdb", create=True)
    run_spec(make_spec(settings), store, lambda progress: None)
    store.checkpoint()
    return Filled(store.path, model)


@pytest.fixture
def store(filled: Filled, tmp_path: Path) -> Store:
    return Store(shutil.copy(filled.db, tmp_path / "store.duckdb"))


def test_another_order_replaces_the_answers_to_the_one_before(store: Store) -> None:
    build(store, "head_ablation", params={"sample": "20"})
    build(store, "layerwise_accuracy", params={"sample": "20"})
    passes = rows_of(store.path, "SELECT pass_id FROM passes WHERE kind = 'masked_accuracy'")
    build(store, "head_ablation", params={"sample": "10"})
    counts = "SELECT job, count(DISTINCT example_id) FROM mask_outcomes GROUP BY job ORDER BY job"
    assert rows_of(store.path, counts) == [("head_ablation", 10), ("layerwise_accuracy", 20)]
    after = rows_of(store.path, "SELECT pass_id FROM passes WHERE kind = 'masked_accuracy'")
    assert len(set(after) & set(passes)) == 1
    assert len(after) == 2
    ledger = "SELECT count(*) FROM ledger JOIN passes USING (pass_id) WHERE kind = 'masked_accuracy'"
    assert rows_of(store.path, ledger) == [(30,)]
    sample = "SELECT DISTINCT example_id FROM splits WHERE purpose = 'pruning' ORDER BY ALL"
    answered = "SELECT DISTINCT example_id FROM mask_outcomes WHERE job = 'head_ablation' ORDER BY ALL"
    assert rows_of(store.path, answered) == rows_of(store.path, sample)


def test_two_jobs_that_order_the_same_each_get_their_answers(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    for name in ("one", "two"):
        write_job(folder, name, ORDER.format("last", "[3]"), materialized="masked_accuracy")
    results = build(store, "one", "two", folder=folder)
    assert {name: result.rows for name, result in results.items()} == {"one": 2, "two": 2}
    query = "SELECT * EXCLUDE job FROM mask_outcomes WHERE job = '{}' ORDER BY ALL"
    one, two = (rows_of(store.path, query.format(job)) for job in ("one", "two"))
    assert one == two


BAD_ORDERS = {
    "a missing column": ("SELECT 1 AS run_id, [0] AS example_ids, 'm' AS mask", "lacks columns\n.*heads"),
    "no run": ("SELECT [0] AS example_ids, 'm' AS mask, [0] AS heads", "lacks the column run_id"),
    "a head too many": (ORDER.format("m", "[4]"), r"head that the model lacks\n.*4\n.*below 4"),
    "a negative head": (ORDER.format("m", "[-1]"), "head that the model lacks"),
    "another run's example": (ORDER.replace("[0, 5]", "[0, 60]").format("m", "[0]"), "the run lacks\n.*60"),
    "one name twice": (
        f"{ORDER.format('m', '[0]')} UNION ALL {ORDER.format('m', '[1]')}",
        "twice for one example\n.*m, example 0",
    ),
}


@pytest.mark.parametrize("case", BAD_ORDERS)
def test_what_is_no_order_fails_the_job_alone(store: Store, tmp_path: Path, case: str) -> None:
    query, message = BAD_ORDERS[case]
    write_job(tmp_path / "jobs", "mine", query, materialized="masked_accuracy")
    write_job(tmp_path / "jobs", "next", "SELECT 1 AS n", "depends: mine")
    results = build(store, "next", "splits", folder=tmp_path / "jobs")
    assert {name: one.status for name, one in results.items()} == {
        "mine": "failed",
        "next": "skipped",
        "splits": "built",
    }
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(results["mine"].error)
    assert rows_of(store.path, "SELECT count(*) FROM passes") == [(1,)]


@pytest.mark.parametrize(
    ("change", "message"), [("weights", "no longer the one"), ("gone", "cannot be found")]
)
def test_a_model_that_has_changed_or_gone(filled: Filled, store: Store, change: str, message: str) -> None:
    aside = filled.model.with_name("aside")
    shutil.move(filled.model, aside)
    try:
        if change == "weights":
            toy_model(filled.model, seed=1)
        result = build(store, "head_ablation")["head_ablation"]
    finally:
        shutil.rmtree(filled.model, ignore_errors=True)
        shutil.move(aside, filled.model)
    assert result.status == "failed"
    assert message in str(result.error)
    assert "run toy" in str(result.error)
    assert rows_of(store.path, "SELECT count(*) FROM mask_outcomes") == [(0,)]
