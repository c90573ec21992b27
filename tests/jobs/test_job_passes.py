"""Passes that jobs request: exact, computed once, resumed after a kill, replaced when the request changes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.fabricate import INTEGRITY, execute
from helpers.fake_cuda import pretend
from helpers.folders import build, write_audit, write_job
from helpers.toy import ATTATTR, DECISIVE, NEUTRAL, VOCABULARY, rows_of, toy_model, toy_rows, write_sst2
from helpers.zeroing import ZeroedBert
from transformers import BertForSequenceClassification

from attattr_batch.analysis.audits import run_audits
from attattr_batch.errors import TerminalError
from attattr_batch.passes.reopening import plan_request
from attattr_batch.passes.requests import Request
from attattr_batch.report.reproduce import commands
from attattr_batch.runtime import execution
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import MachineSettings, make_settings, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import prepare, query_rows
from attattr_batch.store.writing.runs import resolve_run

N_ROWS = 60
ANSWERS = (
    "SELECT * EXCLUDE (run_id, prob_gold, logits, ablation), prob_gold FROM masked_answers"
    " ORDER BY job, example_id, criterion, direction, draw, step, layer, head"
)
FEW = {"draws": "3"}
"""Random orders of the control: fewer than a user has, so that tests take less."""
REQUEST = "SELECT 1 AS run_id, '{}' AS criterion, [0, 5] AS example_ids, {} AS heads"


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


def assert_same_answers(found: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> None:
    """The same rows; probabilities as far as batches of other shapes round alike."""
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    np.testing.assert_allclose([row[-1] for row in found], [row[-1] for row in expected], atol=1e-5)


def same(one: object, other: object) -> bool:
    """Equal; sums may be added up in another order."""
    return one == (pytest.approx(other, rel=1e-12, abs=1e-12) if isinstance(other, float) else other)


def test_the_pruning_experiment_twice_gives_the_same_and_computes_once(store: Store) -> None:
    jobs = ("head_universality", "pruning_area", "effectiveness", "tree_edges")
    results = build(store, *jobs, params=FEW)
    assert {one.status for one in results.values()} == {"built"}, results
    n_masks = {
        "head_ablation": N_ROWS * 5,
        "layerwise_accuracy": N_ROWS * 36,  # six criteria, two directions, k = 0 to 2
        "pruned_accuracy": 30 * 11 * 15,  # twelve criteria and three random orders
    }
    assert {job: results[job].rows for job in n_masks} == n_masks
    tables = [name for name in results if name not in (*n_masks, "path_attribution", "head_values")]
    first = {name: rows_of(store.path, f"FROM {name} ORDER BY ALL") for name in tables}
    ledger = rows_of(store.path, "FROM ledger ORDER BY ALL")

    assert {one.status for one in build(store, *jobs, params=FEW).values()} == {"built"}
    for name in tables:
        again = rows_of(store.path, f"FROM {name} ORDER BY ALL")
        for before, after in zip(first[name], again, strict=True):
            assert all(map(same, before, after)), (name, before, after)
    assert rows_of(store.path, "FROM ledger ORDER BY ALL") == ledger, "a pass was computed again"


def test_pruning_curve_equals_a_forward_with_those_contexts_zeroed(filled: Filled, store: Store) -> None:
    build(store, "pruning_curve", params={"rows": "released", "draws": "1"})
    model = ZeroedBert(filled.model)
    examples = rows_of(store.path, "SELECT text_a, gold FROM examples ORDER BY example_id")
    texts, gold = [(text,) for text, _ in examples], [label for _, label in examples]
    query = "SELECT criterion, list((layer, head) ORDER BY rank) FROM pruning_order GROUP BY criterion"
    accuracies = set()
    for criterion, order in rows_of(store.path, query):
        query = f"SELECT n_pruned, correct, n FROM pruning_curve WHERE criterion = '{criterion}'"
        points = rows_of(store.path, query)
        assert len(points) == 11
        for n_pruned, correct, n in points:
            answers = model.predictions(texts, order[:n_pruned])
            assert correct == sum(one == other for one, other in zip(answers, gold, strict=True))
            assert n == N_ROWS
            accuracies.add(correct / n)
    assert len(accuracies) > 2, "pruning made no difference, so nothing was tested"


RTE_ROWS = 8  # every row is pruned in tests/engine/test_masking.py

LEAST_IMPORTANT = """
WITH ranked AS (
    SELECT run_id, layer, head, row_number() OVER (ORDER BY avg(attr_max), layer, head) - 1 AS place
    FROM head_scores JOIN selected_runs USING (run_id)
    WHERE head_scores.target = 'gold' GROUP BY run_id, layer, head
)
SELECT run_id, tenths AS step, (SELECT list(example_id) FROM predictions) AS example_ids,
    list(layer::INTEGER * 12 + head) FILTER (place < tenths * 72 // 10) AS heads
FROM ranked CROSS JOIN (SELECT unnest([2, 5, 9]) AS tenths) GROUP BY run_id, tenths
"""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rows_of_rte_pruned_by_a_job(real_data: Path, tmp_path: Path) -> None:
    """20, 50 and 90 % of the heads gone; any order serves, so that one node of attribution does."""
    folder = real_data / "models" / "RTE"
    settings: dict[str, Any] = {
        "task": "rte",
        "model": str(folder),
        "data_dir": str(real_data / "data" / "glue"),
    }
    store = Store(tmp_path / "store.duckdb", create=True)
    settings |= {"quadrature": "gauss-legendre", "nodes": 1, "target": "gold", "limit": RTE_ROWS}
    spec = make_spec({**settings, "name": "rte"})
    run_spec(spec, store, lambda progress: None)
    write_job(tmp_path / "jobs", "mine", LEAST_IMPORTANT, materialized="masked_answers")
    assert build(store, "mine", folder=tmp_path / "jobs")["mine"].rows == 3 * RTE_ROWS
    texts = rows_of(store.path, "SELECT text_a, text_b FROM examples ORDER BY example_id")
    with store.read() as connection:
        prepare(connection, [1])
        masks = query_rows(connection, LEAST_IMPORTANT, {}).to_pylist()
    model = ZeroedBert(folder)
    for row in masks:
        query = f"SELECT predicted FROM masked_answers WHERE step = {row['step']} ORDER BY example_id"
        stored = [predicted for (predicted,) in rows_of(store.path, query)]
        assert stored == model.predictions(texts, [divmod(number, 12) for number in row["heads"]])


def test_tokens_are_inserted_into_the_whole_text_and_then_it_is_cut(filled: Filled, tmp_path: Path) -> None:
    """Against transformers' own forward of the tokens where they belong."""
    limit, word = 12, VOCABULARY.index(DECISIVE[0])
    texts = [" ".join((NEUTRAL * 3)[start : start + 20]) for start in (0, 5)]
    data = write_sst2(tmp_path / "glue", dev=[(text, 1) for text in texts])
    settings = {"task": "sst2", "model": str(filled.model), "data_dir": str(data), "max_length": limit}
    store = Store(tmp_path / "long.duckdb", create=True)
    run_spec(make_spec({**settings, "name": "long"}), store, lambda progress: None)
    query = (
        "SELECT 1 AS run_id, (10 * ratio)::INTEGER AS pattern, false AS control, [0, 1] AS example_ids,"
        " [{}] AS tokens, [0] AS segments, [ratio] AS ratios FROM (VALUES (0.3), (0.9)) AS t(ratio)"
    )
    folder = write_job(tmp_path / "jobs", "mine", query.format(word), materialized="attacked_answers")
    assert build(store, "mine", folder=folder)["mine"].rows == 4

    model = BertForSequenceClassification.from_pretrained(filled.model).eval()
    query = "SELECT pattern, example_id, prob_gold, truncated FROM attacked_answers ORDER BY ALL"
    found = rows_of(
        store.path, "SELECT pattern, example_id, prob_gold, truncated FROM attacked_answers ORDER BY ALL"
    )
    for pattern, example_id, probability, truncated in found:
        place = round(21 * pattern / 10)
        words = [VOCABULARY.index(one) for one in texts[example_id].split()]
        tokens = [2, *[*words[:place], word, *words[place:]][: limit - 2], 3]
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits.softmax(1)[0, 1].item()
        assert probability == pytest.approx(expected, abs=1e-5)
        assert truncated == (place >= limit - 2)
    assert {truncated for *_, truncated in found} == {True, False}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_workers_give_the_same_answers(filled: Filled, store: Store, tmp_path: Path) -> None:
    other = Store(shutil.copy(filled.db, tmp_path / "ray.duckdb"))
    build(store, "head_ablation")
    machine = make_settings(MachineSettings, {"executor": "ray", "workers": 2})
    result = build(other, "head_ablation", machine=machine)["head_ablation"]
    assert (result.status, result.quarantined) == ("built", 0), result.error
    workers = rows_of(other.path, "SELECT DISTINCT worker FROM ledger WHERE pass_id > 1")
    assert workers != rows_of(other.path, "SELECT DISTINCT worker FROM ledger WHERE pass_id = 1")
    assert_same_answers(rows_of(other.path, ANSWERS), rows_of(store.path, ANSWERS))


def test_another_request_replaces_the_answers_to_the_one_before(store: Store) -> None:
    build(store, "head_ablation", params={"sample": "20"})
    build(store, "layerwise_accuracy", params={"sample": "20"})
    passes = rows_of(store.path, "SELECT pass_id FROM passes WHERE kind = 'masked_answers'")
    build(store, "head_ablation", params={"sample": "10"})
    counts = "SELECT job, count(DISTINCT example_id) FROM masked_answers GROUP BY job ORDER BY job"
    assert rows_of(store.path, counts) == [("head_ablation", 10), ("layerwise_accuracy", 10)]
    after = rows_of(store.path, "SELECT pass_id FROM passes WHERE kind = 'masked_answers'")
    assert not set(after) & set(passes)
    assert len(after) == 2
    ledger = "SELECT count(*) FROM ledger JOIN passes USING (pass_id) WHERE kind = 'masked_answers'"
    assert rows_of(store.path, ledger) == [(20,)]
    sample = "SELECT DISTINCT example_id FROM splits WHERE purpose = 'pruning' ORDER BY ALL"
    answered = "SELECT DISTINCT example_id FROM masked_answers WHERE job = 'head_ablation' ORDER BY ALL"
    assert rows_of(store.path, answered) == rows_of(store.path, sample)


def test_a_store_stays_right_whichever_job_is_built_with_other_parameters(
    filled: Filled, store: Store, tmp_path: Path
) -> None:
    def offended() -> list[str]:
        return [audit.name for audit in run_audits(store)[0] if not audit.passed]

    build(store, "pruning_area", "effectiveness", params=FEW)
    results = build(store, "pruning_curve", params={"sample": "40"})
    assert {one.status for one in results.values()} == {"built"}
    assert {"pruning_area", "layerwise_accuracy", "effectiveness"} <= set(results)
    assert offended() == []
    assert "pruning_curve" in build(store, "splits", params={"sample": "40", "seed": "1"})
    assert offended() == []
    build(store, "pruned_accuracy", params={"draws": "2"})

    # The report's command makes the same of a fresh store.
    with store.read() as connection:
        (line,) = (one for one in commands(connection).splitlines() if "jobs run" in one)
    words = line.removeprefix("attattr jobs run ").split()
    names = [word for word in words if "=" not in word and word != "--param"]
    params = dict(word.split("=") for word in words if "=" in word)
    assert {"effectiveness", "pruning_area"} <= set(names)
    assert params.items() >= {"splits.sample": "40", "splits.seed": "1", "pruned_accuracy.draws": "2"}.items()
    other = Store(shutil.copy(filled.db, tmp_path / "other.duckdb"))
    build(other, *names, params=params)
    for table in ("splits", "pruning_order", "pruning_area", "effectiveness"):
        ours, theirs = (rows_of(path, f"FROM {table} ORDER BY ALL") for path in (store.path, other.path))
        for one, same_one in zip(ours, theirs, strict=True):
            assert all(map(same, one, same_one)), table


def test_answers_that_were_replaced_halfway_are_not_taken_for_the_earlier_ones(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> None:
        raise TerminalError("no worker is left")

    build(store, "head_ablation", params={"sample": "20"})
    with monkeypatch.context() as patch:
        patch.setattr(execution, "complete_pass", break_off)
        assert build(store, "head_ablation", params={"sample": "10"})["head_ablation"].status == "failed"
    results = build(store, "splits", params={"sample": "20"})
    assert results["head_ablation"].status == "built", "though its parameters and those above are as before"
    answered = "SELECT count(DISTINCT example_id) FROM masked_answers WHERE job = 'head_ablation'"
    assert rows_of(store.path, answered) == [(20,)]


def test_answers_to_another_job_do_not_fail_an_audit(store: Store) -> None:
    build(store, "head_ablation", "layerwise_accuracy", params={"sample": "10"})
    execute(store, "UPDATE masked_answers SET prob_gold = 2 WHERE job = 'layerwise_accuracy'")
    assert build(store, "head_ablation", params={"sample": "10"})["head_ablation"].status == "built"
    results = build(store, "layerwise_accuracy", params={"sample": "10"})
    assert "taken back" in str(results["layerwise_accuracy"].error)


def test_two_jobs_that_request_the_same_each_get_their_answers(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    for name in ("one", "two"):
        write_job(folder, name, REQUEST.format("last", "[3]"), materialized="masked_answers")
    results = build(store, "one", "two", folder=folder)
    assert {name: result.rows for name, result in results.items()} == {"one": 2, "two": 2}
    query = "SELECT * EXCLUDE job FROM masked_answers WHERE job = '{}' ORDER BY ALL"
    one, two = (rows_of(store.path, query.format(job)) for job in ("one", "two"))
    assert one == two


BAD_REQUESTS = {
    "a missing column": ("SELECT 1 AS run_id, [0] AS example_ids", "lacks the column heads"),
    "no run": ("SELECT [0] AS example_ids, [0] AS heads", "lacks the column run_id"),
    "a head too many": (REQUEST.format("m", "[4]"), r"head that the model lacks\n.*4\n.*below 4"),
    "a negative head": (REQUEST.format("m", "[-1]"), "head that the model lacks"),
    "another run's example": (REQUEST.replace("[0, 5]", "[0, 60]").format("m", "[0]"), "the run lacks\n.*60"),
    "one mask twice": (
        f"{REQUEST.format('m', '[0]')} UNION ALL {REQUEST.format('m', '[1]')}",
        "twice for one example\n.*criterion m, example 0",
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_what_is_no_request_fails_the_job_alone(store: Store, tmp_path: Path, case: str) -> None:
    query, message = BAD_REQUESTS[case]
    write_job(tmp_path / "jobs", "mine", query, materialized="masked_answers")
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
    ("change", "message"),
    [
        ("weights", "the model of run toy is no longer the one"),
        ("tokenizer", "the tokenizer of run toy is no longer the one"),
        ("gone", "the model of run toy cannot be found"),
    ],
)
def test_a_model_that_has_changed_or_gone(filled: Filled, store: Store, change: str, message: str) -> None:
    aside = filled.model.with_name("aside")
    shutil.move(filled.model, aside)
    try:
        if change == "weights":
            toy_model(filled.model, seed=1)
        elif change == "tokenizer":
            shutil.copytree(aside, filled.model)
            file = filled.model / "tokenizer.json"
            tokenizer = json.loads(file.read_text())
            vocabulary = tokenizer["model"]["vocab"]
            vocabulary["film"], vocabulary["plot"] = vocabulary["plot"], vocabulary["film"]
            file.write_text(json.dumps(tokenizer))
        result = build(store, "head_ablation")["head_ablation"]
    finally:
        shutil.rmtree(filled.model, ignore_errors=True)
        shutil.move(aside, filled.model)
    assert result.status == "failed"
    assert message in str(result.error)
    assert rows_of(store.path, "SELECT count(*) FROM masked_answers") == [(0,)]


def test_a_request_for_nothing_needs_no_model(filled: Filled, store: Store) -> None:
    build(store, "path_attribution", params={"sample": "4", "variants": "idg"})
    assert rows_of(store.path, "SELECT count(*) > 0 FROM path_scores") == [(True,)]
    aside = filled.model.with_name("aside")
    shutil.move(filled.model, aside)
    try:
        failed = build(store, "path_attribution", params={"sample": "4"})["path_attribution"]
        result = build(store, "path_attribution", params={"sample": "4", "variants": "none"})
    finally:
        shutil.move(aside, filled.model)
    assert "next:    go without these answers: --param variants=none" in str(failed.error)
    assert result["path_attribution"].status == "built", result["path_attribution"].error
    assert rows_of(store.path, "SELECT count(*) FROM path_scores") == [(0,)]


def test_what_is_answered_needs_no_model_and_a_run_without_one_stops_no_other(
    filled: Filled, store: Store, tmp_path: Path
) -> None:
    other = toy_model(tmp_path / "other", seed=1)
    settings = {
        "task": "sst2",
        "model": str(other),
        "data_dir": str(filled.db.parent / "glue"),
        "name": "other",
    }
    run_spec(make_spec(settings), store, lambda progress: None)
    assert build(store, "head_importance", params={"sample": "20"})["head_importance"].status == "built"
    shutil.rmtree(other)
    again = build(store, "head_importance", params={"sample": "20"})
    assert {one.status for one in again.values()} == {"built"}, "the same answers are requested"

    failed = build(store, "head_ablation", params={"sample": "10"})["head_ablation"]
    assert failed.status == "failed"
    assert "the model of run other cannot be found" in str(failed.error)
    assert "next:    build for the others alone: --run toy" in str(failed.error)
    counts = "SELECT run_id, count(DISTINCT example_id) FROM masked_answers GROUP BY run_id ORDER BY run_id"
    assert rows_of(store.path, counts) == [(1, 10), (2, 20)], "the other run has answered"


@pytest.mark.slow
def test_a_killed_pass_goes_on_where_it_stopped(filled: Filled, store: Store, tmp_path: Path) -> None:
    expected = Store(shutil.copy(filled.db, tmp_path / "undisturbed.duckdb"))
    build(expected, "pruned_accuracy", params=FEW)
    build(store, "pruning_order")  # so that the killed process has little else to do
    # A slow computation leaves time to see the first commits: each chunk waits a while.
    boot = (
        "import time\n"
        "from attattr_batch.passes.answering import MaskedAnswersWork as Work\n"
        "from attattr_batch.passes import reopening as stored\n"
        "from attattr_batch.cli.main import main\n"
        "stored._CHUNK_TOKENS, compute = 2000, Work.compute\n"
        "Work.compute = lambda *arguments: (time.sleep(0.5), compute(*arguments))[1]\n"
        "main()\n"
    )
    python = str(Path(ATTATTR).with_name("python"))
    command = [
        python,
        "-c",
        boot,
        "jobs",
        "run",
        "pruned_accuracy",
        "--db",
        str(store.path),
        "--param",
        "draws=3",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = "SELECT count(*) FROM ledger JOIN passes p USING (pass_id) WHERE p.pass_status = 'running'"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.3)
        if rows_of(store.path, done)[0][0] >= 3:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done too soon"
    committed = rows_of(store.path, done)[0][0]
    assert committed >= 3
    survivors = "SELECT pass_id, example_id, committed_at FROM ledger WHERE pass_id > 1 ORDER BY ALL"
    before = rows_of(store.path, survivors)

    results = build(store, "pruned_accuracy", params=FEW)
    assert {one.status for one in results.values()} == {"built"}
    assert set(before) <= set(rows_of(store.path, survivors)), "committed examples were computed again"
    assert_same_answers(rows_of(store.path, ANSWERS), rows_of(expected.path, ANSWERS))
    assert {ok for (ok,) in rows_of(store.path, f"SELECT ok FROM {INTEGRITY}")} == {True}


def test_a_pass_is_computed_where_its_own_command_says(store: Store) -> None:
    elsewhere = (
        '{"device": "cuda", "executor": "ray", "address": "127.0.0.1:1", "workers": 4, "stage": "s3://x"}'
    )
    execute(store, f"UPDATE runs SET config = json_merge_patch(config, '{elsewhere}')")
    result = build(store, "head_ablation", params={"sample": "10"})["head_ablation"]
    assert (result.status, result.error) == ("built", None)
    asked = make_settings(MachineSettings, {"executor": "ray", "address": "127.0.0.1:1"})
    other = build(store, "head_ablation", params={"sample": "9"}, machine=asked)["head_ablation"]
    assert "cannot reach the Ray cluster" in str(other.error)
    machines = {1: make_settings(MachineSettings, {"device": "cpu"})}
    both = build(store, "head_ablation", params={"sample": "9"}, machine=asked, machines=machines)
    assert both["head_ablation"].status == "built", "the run's own machine wins over the one for all"


def test_answers_that_fail_an_audit_are_taken_back_and_computed_again(store: Store) -> None:
    build(store, "head_ablation", params={"sample": "10"})
    answers = rows_of(store.path, ANSWERS)
    (first, *others) = sorted({example_id for _, example_id, *_ in answers})
    committed = "SELECT example_id, committed_at FROM ledger WHERE pass_id > 1 ORDER BY ALL"
    before = dict(rows_of(store.path, committed))
    spoil = f"UPDATE masked_answers SET prob_gold = 2 WHERE layer IS NULL AND example_id = {first}"
    execute(store, spoil)
    failed = build(store, "head_ablation", params={"sample": "10"})["head_ablation"]
    assert failed.status == "failed"
    assert "fails its audit clean_mask_is_prediction, so its answers to 1 of the" in str(failed.error)
    assert "next:    `attattr jobs run head_ablation` computes them again" in str(failed.error)
    assert list(dict(rows_of(store.path, committed))) == others
    assert rows_of(store.path, "SELECT run, status FROM progress WHERE pass_id > 1") == [("toy", "running")]

    assert build(store, "head_ablation", params={"sample": "10"})["head_ablation"].status == "built"
    assert_same_answers(rows_of(store.path, ANSWERS), answers)
    after = dict(rows_of(store.path, committed))
    assert [one for one in after if after[one] != before[one]] == [first], "only that one was computed again"


def test_an_audit_that_names_no_examples_leaves_the_answers(store: Store, tmp_path: Path) -> None:
    folder, query = tmp_path / "jobs", REQUEST.format("m", "[3]")
    write_job(folder, "mine", query, "audits: all_well", materialized="masked_answers")
    write_audit(folder, "all_well", "SELECT count(*) AS n FROM masked_answers HAVING count(*) > 0")
    for _ in range(2):
        failed = build(store, "mine", folder=folder)["mine"]
        assert "fails its audit all_well, which names none of its answers" in str(failed.error)
        assert rows_of(store.path, "SELECT count(*) FROM masked_answers") == [(2,)]


@pytest.mark.parametrize(
    ("each", "of_a_cpu", "of_a_gpu"), [(1, 150_000, 16_384), (10, 15_000, 16_384), (1000, 150, 2400)]
)
def test_a_chunk_of_answers_is_larger_on_a_gpu(
    store: Store, monkeypatch: pytest.MonkeyPatch, each: int, of_a_cpu: int, of_a_gpu: int
) -> None:
    pretend(monkeypatch, 80)
    request = Request(((0,),) * each, pa.table({}), {0: tuple(range(each)), 5: (0,)}, "")
    limits = {}
    with store.read() as connection:
        run = resolve_run(connection, "toy")
        for device in ("cpu", "cuda"):
            machine = make_settings(MachineSettings, {"device": device})
            plan = plan_request(connection, run, machine, "masked_answers", "job", request)
            limits[device] = (plan.chunk_tokens, plan.chunk_examples)
    assert limits == {"cpu": (of_a_cpu, 64), "cuda": (of_a_gpu, 1024)}
