"""A three-class model with its outputs in another order answers alike, in its run and in jobs' passes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.folders import build
from helpers.toy import rows_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attattr_batch.files import bundled_folder
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import make_spec
from attattr_batch.store.database.connection import Store

ROWS = 12
ORDER = (1, 2, 0)
"""The old output that each new one is: no permutation that undoes itself."""
PARAMS = {"min_value": "0", "patterns": "1", "victims": "2", "control_draws": "1"}
BY_VALUE = {
    "predictions": "gold, predicted, probabilities, prob_gold, prob_predicted",
    "target_scores": "target, label, tree_top",
    "layer_scores": "target, layer, f_full, f_zero",
    "head_scores": "target, layer, head, attr_max, attr_sum, taylor",
    "masked_answers": "job, layer, head, predicted, prob_gold",
    "attacked_answers": "job, if(control, 'control', 'pattern'), predicted, prob_gold",
}
"""Columns by table whose values the order of a model's outputs may not change."""


def permuted(folder: Path) -> Path:
    """The bundled MNLI model with its outputs in another order, each under its own name."""
    shutil.copytree(bundled_folder() / "models" / "mnli", folder)
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][list(ORDER)].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = {str(new): config["id2label"][str(old)] for new, old in enumerate(ORDER)}
    config |= {"id2label": names, "label2id": {name: int(new) for new, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def own_rows(path: Path) -> Path:
    """The first rows of the bundled MNLI data as a file of one's own."""
    with (bundled_folder() / "data" / "MNLI" / "dev_matched.tsv").open(encoding="utf-8") as source:
        given = list(csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE))[:ROWS]
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["a", "b", "verdict"])
        writer.writerows([row["sentence1"], row["sentence2"], row["gold_label"]] for row in given)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs `plain` and `permuted` of one split, and `reordered` of its rows, labels in another order."""
    folder = tmp_path_factory.mktemp("labels")
    model = str(permuted(folder / "model"))
    common = {"quadrature": "gauss-legendre", "nodes": 2}
    bundled = {"task": "mnli", "data_dir": "bundled", "limit": ROWS}
    own = {
        "dataset": str(own_rows(folder / "rows.csv")),
        "columns": {"text_a": "a", "text_b": "b", "label": "verdict"},
        "labels": ["contradiction", "entailment", "neutral"],
    }
    one = Store(folder / "store.duckdb", create=True)
    for name, settings in (
        ("plain", bundled | {"model": "bundled"}),
        ("permuted", bundled | {"model": model}),
        ("reordered", own | {"model": model}),
    ):
        run_spec(make_spec({**common, **settings, "name": name}), one, lambda progress: None)
    results = build(one, "head_ablation", "trigger_selection", params=PARAMS)
    assert {name: result.error for name, result in results.items() if result.status != "built"} == {}
    return one


def found(store: Store, run: str, table: str) -> list[tuple[Any, ...]]:
    query = (
        f"SELECT example_id, {BY_VALUE[table]} FROM {table} JOIN runs r USING (run_id) WHERE r.name = '{run}'"
    )
    rows = rows_of(store.path, f"{query.replace('target,', f'{table}.target,')} ORDER BY ALL")
    return [row for row in rows if "control" not in row]  # its random words depend on the run's number


@pytest.mark.parametrize("table", BY_VALUE)
def test_the_order_of_outputs_changes_no_value(store: Store, table: str) -> None:
    plain, other = (found(store, run, table) for run in ("plain", "permuted"))
    assert plain
    assert len(other) == len(plain)
    for one, same_one in zip(plain, other, strict=True):
        for value, same_value in zip(one, same_one, strict=True):
            exact = not isinstance(value, float | list)
            assert same_value == (value if exact else pytest.approx(value, rel=1e-3, abs=1e-6)), (
                one,
                same_one,
            )


def test_the_order_of_the_datasets_labels_changes_no_answer(store: Store) -> None:
    query = (
        "SELECT example_id, r.labels[gold + 1], r.labels[predicted + 1], prob_gold,"
        " probabilities[list_position(r.labels, 'neutral')] FROM predictions JOIN runs r USING (run_id)"
        " WHERE r.name = '{}' ORDER BY example_id"
    )
    plain, other = (rows_of(store.path, query.format(run)) for run in ("plain", "reordered"))
    assert len({row[2] for row in plain}) == 3, "every class is an answer"
    for one, same_one in zip(plain, other, strict=True):
        assert same_one[:3] == one[:3]
        assert same_one[3:] == pytest.approx(one[3:], abs=1e-6)
    masked = (
        "SELECT example_id, r.labels[predicted + 1], round(prob_gold, 5) FROM masked_answers"
        " JOIN runs r USING (run_id) WHERE r.name = '{}' AND layer IS NULL ORDER BY example_id"
    )
    sampled = {row[0] for row in rows_of(store.path, masked.format("plain"))}
    assert sampled == {row[0] for row in rows_of(store.path, masked.format("reordered"))} == set(range(ROWS))
    assert rows_of(store.path, masked.format("plain")) == rows_of(store.path, masked.format("reordered"))


def test_answers_have_the_names_that_the_model_gives_them(store: Store) -> None:
    query = (
        "SELECT x.text_a, x.text_b, r.labels[p.predicted + 1], r.model FROM predictions AS p"
        " JOIN examples AS x USING (run_id, example_id) JOIN runs AS r USING (run_id)"
        " WHERE r.name = 'permuted' ORDER BY p.example_id"
    )
    given = rows_of(store.path, query)
    folder = store.path.parent / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        [row[0] for row in given], [row[1] for row in given], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        answers = model(**tokens).logits.argmax(1).tolist()
    assert [row[2] for row in given] == [model.config.id2label[answer] for answer in answers]
