"""Passes along other paths and with mean contexts, as jobs request them of a run of the bundled data."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import naive
from helpers.fabricate import INTEGRITY, execute
from helpers.folders import build, write_job
from helpers.other_loops import ByLoop
from helpers.toy import attattr, rows_of
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from attattr_batch.engine.quadrature import gauss_legendre
from attattr_batch.engine.variants import CRITERIA
from attattr_batch.files import bundled_folder
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import make_spec
from attattr_batch.store.database.connection import Store

N_ROWS = 12
FEW = {"path_rows": "4"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("paths") / "store.duckdb", create=True)
    spec = make_spec(
        {"task": "sst2", "model": "bundled", "data_dir": "bundled", "limit": N_ROWS, "name": "sst2"}
    )
    run_spec(spec, store, lambda progress: None)
    store.checkpoint()
    return store.path


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Store:
    return Store(shutil.copy(filled, tmp_path / "store.duckdb"))


@cache
def model() -> Any:
    folder = bundled_folder() / "models" / "sst2"
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()


def inputs_of(store: Store, example_id: int) -> dict[str, Tensor]:
    query = f"SELECT list(token_id ORDER BY position) FROM tokens WHERE example_id = {example_id}"
    ((ids,),) = rows_of(store.path, query)
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}


def means_over(store: Store, example_ids: list[int]) -> Tensor:
    """Mean contexts over all tokens of these rows [layer, width]."""
    seen = [torch.cat(naive.contexts(model(), inputs_of(store, one))) for one in example_ids]
    return torch.cat(seen, 1).mean(1)


def ranking_rows(store: Store) -> list[int]:
    query = "SELECT example_id FROM splits WHERE purpose = 'pruning' AND part = 'ranking' ORDER BY ALL"
    return [one for (one,) in rows_of(store.path, query)]


def output_of_gold(store: Store, example_id: int) -> int:
    ((label,),) = rows_of(
        store.path, f"SELECT r.labels[gold + 1] FROM examples, runs AS r WHERE example_id = {example_id}"
    )
    return int(model().config.label2id[label])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_rows_are_those_of_a_loop_over_matrices(store: Store, criterion: str) -> None:
    variant = criterion.removeprefix("attattr_")
    results = build(store, "path_attribution", params=FEW | {"variants": variant})
    assert results["path_attribution"].status == "built", results
    means = means_over(store, ranking_rows(store))
    query = "FROM path_scores WHERE example_id = {} AND layer = {} ORDER BY head"
    columns = "SELECT attr_max, attr_positive_sum, attr_sum, f_full, f_zero, completeness_error, certified "
    examples = rows_of(store.path, "SELECT DISTINCT example_id FROM path_scores ORDER BY ALL")
    assert len(examples) == 4
    for (example_id,) in examples[:2]:
        inputs, label = inputs_of(store, example_id), output_of_gold(store, example_id)
        clean = model()(**inputs).logits.softmax(-1)[0, label].item()
        for layer in range(model().config.num_hidden_layers):
            loop = ByLoop(model(), inputs, torch.tensor([label]), means, CRITERIA[criterion], layer)
            (scores,), (f_zero,) = loop.scores(gauss_legendre(40))
            found = rows_of(store.path, columns + query.format(example_id, layer))
            maxima, positive, sums, f_full, from_zero, errors, certified = zip(*found, strict=True)
            np.testing.assert_allclose(sums, scores.sum((1, 2)), rtol=5e-3, atol=1e-3)
            if variant == "mean":
                assert set(maxima) == set(positive) == {None}
            else:
                np.testing.assert_allclose(maxima, scores.amax((1, 2)), rtol=5e-3, atol=1e-3)
                np.testing.assert_allclose(positive, scores.clamp_min(0).sum((1, 2)), rtol=5e-3, atol=1e-3)
            np.testing.assert_allclose(f_full, clean, rtol=0, atol=1e-5)
            np.testing.assert_allclose(from_zero, f_zero, rtol=0, atol=1e-5)
            assert (set(errors) == {None}) == (variant == "idg")
            assert all(certified)


def test_means_stand_in_for_removed_heads(store: Store) -> None:
    results = build(store, "head_ablation", params={"ablation": "mean"})
    assert results["head_ablation"].status == "built", results
    n_layers, n_heads = model().config.num_hidden_layers, model().config.num_attention_heads
    means = means_over(store, ranking_rows(store))
    example_id = 3
    inputs, label = inputs_of(store, example_id), output_of_gold(store, example_id)
    found = rows_of(
        store.path,
        "SELECT layer, head, ablation, prob_gold FROM masked_answers"
        f" WHERE example_id = {example_id} AND layer IS NOT NULL ORDER BY ALL",
    )
    assert len(found) == n_layers * n_heads
    effects = []
    for layer, head, ablation, prob_gold in found:
        kept = torch.ones(1, n_layers, n_heads, dtype=torch.float64)
        kept[0, layer, head] = 0
        answers = naive.mean_masked_logits(model(), inputs, kept, means).softmax(-1)
        assert ablation == "mean"
        assert prob_gold == pytest.approx(answers[0, label].item(), abs=1e-5)
        effects.append(prob_gold - naive.masked_logits(model(), inputs, kept).softmax(-1)[0, label].item())
    assert max(map(abs, effects)) > 1e-3, "means made no difference, so nothing was tested"


def test_another_ablation_replaces_the_answers_and_tables_say_which(store: Store) -> None:
    jobs, few = ("pruning_area", "effectiveness"), {"draws": "2"}
    tables = ("pruning_curve", "pruning_area", "effectiveness")
    counts = []
    for ablation in ("zero", "mean"):
        results = build(store, *jobs, params=few | {"ablation": ablation})
        assert {one.status for one in results.values()} == {"built"}, results
        for table in (*tables, "masked_answers"):
            assert rows_of(store.path, f"SELECT DISTINCT ablation FROM {table}") == [(ablation,)]
        counts.append(
            rows_of(store.path, "SELECT job, count(*) FROM masked_answers GROUP BY ALL ORDER BY ALL")
        )
    assert counts[0] == counts[1]
    # Answers of an earlier release do not say, and were all of zero.
    build(store, *jobs, params=few | {"ablation": "zero"})
    execute(store, "UPDATE masked_answers SET ablation = NULL")
    ledger = rows_of(store.path, "FROM ledger ORDER BY ALL")
    build(store, *jobs, params=few | {"ablation": "zero"})
    assert rows_of(store.path, "FROM ledger ORDER BY ALL") == ledger, "the same was asked again"
    for table in tables:
        assert rows_of(store.path, f"SELECT DISTINCT ablation FROM {table}") == [("zero",)]


def test_an_example_without_a_gold_label_has_no_gold_class(store: Store, tmp_path: Path) -> None:
    query = "SELECT 1 AS run_id, 'attattr_idg' AS criterion, [0] AS example_ids"
    write_job(tmp_path / "jobs", "mine", query, materialized="path_scores")
    execute(store, "UPDATE examples SET gold = NULL WHERE example_id = 0")
    failed = build(store, "mine", folder=tmp_path / "jobs")["mine"]
    assert "without a gold label" in str(failed.error)


BOOT = """
import time
from attattr_batch.passes.laboratory import PathScoresWork as Work
from attattr_batch.passes import reopening
from attattr_batch.cli.main import main
reopening._CHUNK_TOKENS, compute = 2000, Work.compute
Work.compute = lambda *arguments: (time.sleep(0.5), compute(*arguments))[1]
main()
"""


@pytest.mark.slow
def test_a_killed_pass_goes_on_where_it_stopped(filled: Path, store: Store, tmp_path: Path) -> None:
    undisturbed = Store(shutil.copy(filled, tmp_path / "undisturbed.duckdb"))
    build(undisturbed, "path_attribution")
    arguments = ["jobs", "run", "path_attribution", "--db", str(store.path)]
    process = subprocess.Popen(
        [sys.executable, "-c", BOOT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    done = "SELECT count(*) FROM ledger JOIN passes AS p USING (pass_id) WHERE p.pass_status = 'running'"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if rows_of(store.path, done)[0][0] >= 2:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done too soon"
    survivors = "SELECT example_id, committed_at FROM ledger WHERE pass_id > 1 ORDER BY ALL"
    before = rows_of(store.path, survivors)
    assert 2 <= len(before) < N_ROWS // 2
    assert attattr(*arguments).returncode == 0
    assert attattr("verify", "--db", store.path).returncode == 0
    assert set(before) < set(rows_of(store.path, survivors)), "committed examples were computed again"
    query = (
        "SELECT example_id, criterion, layer, head, attr_sum, f_zero FROM path_scores"
        " ORDER BY example_id, criterion, layer, head"
    )
    found, expected = (rows_of(one.path, query) for one in (store, undisturbed))
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    np.testing.assert_allclose([row[4:] for row in found], [row[4:] for row in expected], atol=1e-3)
    assert {ok for (ok,) in rows_of(store.path, f"SELECT ok FROM {INTEGRITY}")} == {True}
