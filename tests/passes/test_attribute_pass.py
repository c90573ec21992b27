"""The attribution pass on a tiny model: which rows it writes, for which class, under which label."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute as attribute_batch

from attattr_batch.choices import Target
from attattr_batch.data.records import Chunk
from attattr_batch.engine.families import collate, encoder_for
from attattr_batch.engine.families.encoders import BertEncoder
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.path import Items
from attattr_batch.engine.statistics import full_scores, tree_tops
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.runtime.executors.ray_workers import Actor
from attattr_batch.spec import MethodSettings

LENGTHS = (9, 5, 12, 7, 10, 6)
LAYERS, HEADS = 3, 4
KEYS = {
    "predictions": ("example_id",),
    "target_scores": ("example_id", "target"),
    "layer_scores": ("example_id", "target", "layer"),
    "head_scores": ("example_id", "target", "layer", "head"),
    "edges": ("example_id", "target", "layer", "head", "rank"),
    "layer_edges": ("example_id", "target", "layer", "query_pos", "key_pos"),
    "attention_peaks": ("example_id", "peak"),
}
Row = dict[str, Any]


def work(target: Target = "gold", outputs: tuple[int, ...] = (0, 1, 2)) -> AttributeWork:
    return AttributeWork(
        source=ModelSource("tiny", Path("nowhere")),
        device="cpu",
        threads=None,
        method=MethodSettings(quadrature="gauss-legendre", nodes=4, target=target),
        outputs=outputs,
        batch_tokens=4096,
    )


@cache
def predictions() -> list[int]:
    batch = collate(tiny.examples(LENGTHS), 1, torch.device("cpu"))
    with torch.no_grad():
        labels: list[int] = tiny.classifier("bert")(**batch.model_inputs()).logits.argmax(1).tolist()
    return labels


GOLD_OFF = (0, 1, 0, 2, 0, 1)
"""How far each row's gold label is from the predicted one, modulo 3: rows 1, 3 and 5 are wrong."""


@cache
def chunk() -> Chunk:
    """Six rows whose ids are not their places in the chunk."""
    gold = [(label + off) % 3 for label, off in zip(predictions(), GOLD_OFF, strict=True)]
    rows = tiny.examples(LENGTHS)
    return Chunk(
        tuple(replace(row, example_id=100 - 7 * place, gold=gold[place]) for place, row in enumerate(rows))
    )


def computed(model: Any, settings: AttributeWork, part: Chunk | None = None) -> dict[str, pa.Table]:
    return dict(settings.compute(encoder_for(model), part or chunk())())


def keyed(table: pa.Table, name: str) -> dict[tuple[Any, ...], Row]:
    rows = table.to_pylist()
    found = {tuple(row[key] for key in KEYS[name]): row for row in rows}
    assert len(found) == len(rows), f"{name} has two rows of one key"
    return found


def assert_equal(one: dict[tuple[Any, ...], Row], other: dict[tuple[Any, ...], Row]) -> None:
    assert one.keys() == other.keys()
    for key, row in other.items():
        for name, value in row.items():
            exact = not isinstance(value, (float, list))
            assert one[key][name] == (value if exact else pytest.approx(value, rel=1e-4, abs=1e-6)), (
                key,
                name,
            )


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.classifier("bert")


@pytest.mark.parametrize("target", ["gold", "predicted"])
def test_number_of_rows(model: Any, target: Target) -> None:
    tables = computed(model, work(target))
    assert tables.keys() == KEYS.keys()
    sizes = {name: len(keyed(table, name)) for name, table in tables.items()}
    assert sizes["predictions"] == sizes["target_scores"] == 6
    assert sizes["layer_scores"] == 6 * LAYERS
    assert sizes["head_scores"] == 6 * LAYERS * HEADS
    assert 0 < sizes["edges"] <= 6 * LAYERS * HEADS * 5
    for table in tables.values():
        assert set(table["example_id"].to_pylist()) == set(chunk().example_ids)
        if "target" in table.column_names:
            assert set(table["target"].to_pylist()) == {target}


def test_both_targets_are_the_union_of_either(model: Any) -> None:
    both = computed(model, work("both"))
    gold, predicted = computed(model, work("gold")), computed(model, work("predicted"))
    assert len(both["target_scores"]) == 6 + 3
    assert len(both["head_scores"]) == (6 + 3) * LAYERS * HEADS
    for name in ("predictions", "attention_peaks"):
        assert_equal(keyed(both[name], name), keyed(gold[name], name))
    for name in set(KEYS) - {"predictions", "attention_peaks"}:
        rows = both[name].to_pylist()
        for single, target in ((gold, "gold"), (predicted, "predicted")):
            mine = [row | {"target": target} for row in rows if row["target"] in (target, "both")]
            assert_equal(keyed(pa.Table.from_pylist(mine), name), keyed(single[name], name))
    by_id = dict(zip(chunk().example_ids, predictions(), strict=True))
    gold_of = {example.example_id: example.gold for example in chunk().examples}
    for row in both["target_scores"].to_pylist():
        expected = by_id[row["example_id"]] if row["target"] == "predicted" else gold_of[row["example_id"]]
        assert row["label"] == expected
        assert (row["target"] == "both") == (by_id[row["example_id"]] == gold_of[row["example_id"]])


def test_scores_are_those_of_the_target_s_class(model: Any) -> None:
    batch = collate(chunk().examples, 1, torch.device("cpu"))
    rows = torch.arange(6)
    classes = torch.tensor([example.gold for example in chunk().examples])
    expected = attribute_batch(model, batch, Items(rows, classes), work().method)
    tables = computed(model, work("gold"))
    heads = keyed(tables["head_scores"], "head_scores")
    layers = keyed(tables["layer_scores"], "layer_scores")
    for layer, result in enumerate(expected):
        for row, example_id in enumerate(chunk().example_ids):
            assert layers[example_id, "gold", layer]["f_full"] == pytest.approx(float(result.f_full[row]))
            assert layers[example_id, "gold", layer]["f_zero"] == pytest.approx(float(result.f_zero[row]))
            for head in range(HEADS):
                found = heads[example_id, "gold", layer, head]
                assert found["attr_sum"] == pytest.approx(float(result.scores[row, head].sum()), abs=1e-6)
    tops, mass = tree_tops(torch.stack([full_scores(result).sum(1) for result in expected]).sum(0))
    trees = keyed(tables["target_scores"], "target_scores")
    for row, example_id in enumerate(chunk().example_ids):
        assert trees[example_id, "gold"]["tree_top"] == tops[row]
        assert trees[example_id, "gold"]["tree_top_mass"] == pytest.approx(float(mass[row]), rel=1e-4)


def test_the_last_layer_keeps_all_positive_edges(model: Any) -> None:
    tables = computed(model, work("gold"))
    floors = {
        row["layer"]: row["edge_floor"] for row in tables["layer_scores"].to_pylist() if row["edge_floor"] > 0
    }
    assert floors.keys() == {0, 1}


def test_predictions(model: Any) -> None:
    table = keyed(computed(model, work("both"))["predictions"], "predictions")
    batch = collate(chunk().examples, 1, torch.device("cpu"))
    with torch.no_grad():
        probabilities = model(**batch.model_inputs()).logits.softmax(-1)
    for row, example in enumerate(chunk().examples):
        found = table[example.example_id,]
        assert found["gold"] == example.gold
        assert found["predicted"] == int(probabilities[row].argmax())
        assert found["probabilities"] == pytest.approx(probabilities[row].tolist(), abs=1e-6)
        assert found["prob_gold"] == found["probabilities"][example.gold]
        assert found["prob_predicted"] == max(found["probabilities"])
        assert found["n_tokens"] == LENGTHS[row]
        assert found["truncated"] is False


def test_a_model_with_permuted_outputs_gives_the_same_rows(model: Any) -> None:
    """`outputs` names the model's output of each dataset label; a 3-cycle tells it from its inverse."""
    outputs = (1, 2, 0)
    permuted = tiny.classifier("bert")
    with torch.no_grad():
        for label, output in enumerate(outputs):
            permuted.classifier.weight[output] = model.classifier.weight[label]
            permuted.classifier.bias[output] = model.classifier.bias[label]
    expected, found = computed(model, work("both")), computed(permuted, work("both", outputs))
    for name, table in expected.items():
        assert_equal(keyed(found[name], name), keyed(table, name))


@pytest.mark.parametrize("target", ["gold", "both"])
def test_halves_of_a_chunk_give_the_same_rows(model: Any, target: Target) -> None:
    whole = computed(model, work(target))
    halves = [computed(model, work(target), half) for half in chunk().halves()]
    for name, table in whole.items():
        joined = pa.concat_tables([half[name] for half in halves])
        assert_equal(keyed(joined, name), keyed(table, name))


def test_rows_without_gold_label(model: Any) -> None:
    unlabelled = Chunk(tuple(replace(example, gold=None) for example in chunk().examples))
    tables = computed(model, work("predicted"), unlabelled)
    labelled = computed(model, work("predicted"))
    for row in tables["predictions"].to_pylist():
        assert row["gold"] is None
        assert row["prob_gold"] is None
    for name in set(KEYS) - {"predictions"}:
        assert_equal(keyed(tables[name], name), keyed(labelled[name], name))


def test_fixed_rules_leave_the_adaptive_errors_null(model: Any) -> None:
    fixed = computed(model, work("gold"))["layer_scores"]
    assert fixed["path_error"].null_count == fixed["agreement_error"].null_count == len(fixed)
    adaptive = computed(model, replace(work("gold"), method=MethodSettings()))["layer_scores"]
    assert adaptive["path_error"].null_count == adaptive["agreement_error"].null_count == 0
    assert max(map(abs, adaptive["completeness_error"].to_pylist())) <= 1e-3


def test_a_changed_architecture_is_noticed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_for(model)
    monkeypatch.setattr(BertEncoder, "classify", lambda self, hidden: self.model.classifier(hidden[:, 0]))
    with pytest.raises(TerminalError, match="traced forward of family 'bert' differs"):
        work().compute(encoder, chunk())


def test_broken_weights_are_noticed() -> None:
    broken = tiny.classifier("bert")
    with torch.no_grad():
        broken.classifier.bias[1] = math.nan
    with pytest.raises(TerminalError, match="the weights are broken"):
        computed(broken, work())


def test_a_worker_starts_from_a_folder(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    started = replace(work("gold"), source=ModelSource("saved", tmp_path), threads=1).start()
    later = started.compute(chunk())
    assert callable(later)
    found = later()
    for name, table in computed(model, work("gold")).items():
        assert_equal(keyed(found[name], name), keyed(table, name))


def test_a_worker_sets_its_threads_where_it_has_a_number(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for threads in (3, None):
        replace(work("gold"), source=ModelSource("saved", tmp_path), threads=threads).start()
    assert asked == [3]


def test_a_worker_takes_the_model_that_was_planned_and_no_other(model: Any, tmp_path: Path) -> None:
    """A folder of the same name on another machine, or written over since, holds another model."""
    model.save_pretrained(tmp_path)
    source = ModelSource("saved", tmp_path).pinned()
    pinned = replace(work("gold"), source=source)
    (tmp_path / "optimizer.pt").touch()
    files = {path.name: path.read_bytes() for path in pinned.files()}
    assert sorted(files) == ["config.json", "model.safetensors"], "no more than the model is loaded from"
    assert Actor(pinned).start()
    tiny.classifier("bert", initializer_range=0.2).save_pretrained(tmp_path)
    assert source.identity() == ModelSource("saved", tmp_path, sha256=source.sha256).identity()
    assert not Actor(pinned).start()
    assert Actor(pinned).start(files)
    others = {path.name: path.read_bytes() for path in pinned.files()}
    with pytest.raises(UserError, match="have changed since the command began"):
        Actor(pinned).start(others)
