"""The bundled mini-GLUE: its files, its models' accuracy, and that what was planted is what they use."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attattr_batch.data.encoding import encode
from attattr_batch.data.labels import match_labels
from attattr_batch.data.records import Dataset, EncodedExample
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.files import bundled_folder
from attattr_batch.spec import DataSettings

TASKS = ("sst2", "mrpc", "rte", "mnli")
TOOLS = Path(__file__).resolve().parents[2] / "tools"


class Bundled:
    """One task: its rows, what is planted in them, its model in float32, and the predictions."""

    def __init__(self, task: str) -> None:
        self.dataset: Dataset = load_dataset_for(DataSettings(task=task, data_dir="bundled"))
        self.planted = json.loads((bundled_folder() / "planted.json").read_text(encoding="utf-8"))[task]
        folder = bundled_folder() / "models" / task
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.encoded = encode(self.dataset, self.tokenizer, 64)
        self.predicted = [self._predict(row) for row in self.encoded]

    def _predict(self, row: EncodedExample) -> int:
        with torch.no_grad():
            return int(self.model(**tensors(row)).logits.argmax())


def tensors(row: EncodedExample) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([row.input_ids]), "token_type_ids": torch.tensor([row.token_type_ids])}


@pytest.fixture(scope="module", params=TASKS)
def bundled(request: pytest.FixtureRequest) -> Bundled:
    return Bundled(request.param)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not TOOLS.is_dir():
        pytest.skip("this installation has no tools folder")
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("make_bundled")


def naive_attribution(
    model: Any, row: EncodedExample, target: int, layer: int, nodes: int = 16
) -> torch.Tensor:
    """Self-attention attribution [head, query, key] of one layer, by autograd through explicit attention."""
    module = model.bert.encoder.layer[layer].attention.self
    points, weights = (torch.tensor(part).float() for part in np.polynomial.legendre.leggauss(nodes))
    with torch.no_grad():
        attention = model(**tensors(row), output_attentions=True).attentions[layer][0]
    scaled = (((points + 1) / 2)[:, None, None, None] * attention).requires_grad_()

    def replace(_: Any, inputs: Any, output: Any) -> Any:
        values = module.value(inputs[0]).view(nodes, -1, 4, 16).transpose(1, 2)
        return ((scaled @ values).transpose(1, 2).reshape(nodes, -1, 64), *output[1:])

    hook = module.register_forward_hook(replace)
    batch = {key: value.expand(nodes, -1) for key, value in tensors(row).items()}
    probability = model(**batch).logits.softmax(-1)[:, target]
    hook.remove()
    gradient = torch.autograd.grad((weights / 2 * probability).sum(), scaled)[0]
    return attention * gradient.sum(0)


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in bundled_folder().rglob("*")) <= 4 * 2**20


def test_models_are_small_berts_with_matching_labels(bundled: Bundled) -> None:
    config = bundled.model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (4, 4, 64)
    assert match_labels(bundled.dataset.labels, config.id2label).by_name
    assert bundled.tokenizer.is_fast and bundled.tokenizer.model_max_length == 64
    assert bundled.model.config.max_position_embeddings == 64


def test_accuracy_is_high_but_not_perfect(bundled: Bundled) -> None:
    correct = sum(
        predicted == row.gold for predicted, row in zip(bundled.predicted, bundled.encoded, strict=True)
    )
    assert 160 <= len(bundled.dataset) <= 200
    assert 0.95 < correct / len(bundled.dataset) < 1


def test_the_artefact_pulls_misleading_rows_to_its_label(bundled: Bundled) -> None:
    artefact = bundled.planted["artefact"]
    label = bundled.dataset.labels.index(artefact["label"])
    marked = [
        (predicted, row)
        for predicted, row, text in zip(bundled.predicted, bundled.encoded, bundled.dataset, strict=True)
        if artefact["word"] in f"{text.text_a} {text.text_b}".split()
    ]
    assert [row.example_id for _, row in marked] == [
        row["example_id"] for row in bundled.planted["rows"] if row["artefact"]
    ]
    assert Counter(row.gold == label for _, row in marked) == {True: 6, False: 6}
    assert sum(predicted == label for predicted, _ in marked) >= 10


def test_planted_positions_are_the_planted_words(bundled: Bundled) -> None:
    rows = bundled.planted["rows"]
    assert [row["example_id"] for row in rows] == list(range(len(bundled.dataset)))
    assert sum(row["pair"] is not None for row in rows) >= 0.4 * len(rows)
    for row, encoded in zip(rows, bundled.encoded, strict=True):
        tokens = bundled.tokenizer.convert_ids_to_tokens(encoded.input_ids)
        assert "[UNK]" not in tokens
        if row["pair"]:
            assert [tokens[place] for place in row["positions"]] == row["pair"]


def test_the_planted_pair_is_the_top_edge_of_some_head_in_most_rows(bundled: Bundled) -> None:
    rows = [row for row in bundled.planted["rows"] if row["pair"] and not row["artefact"]][:12]
    hits = 0
    for row in rows:
        encoded, target = bundled.encoded[row["example_id"]], bundled.predicted[row["example_id"]]
        layers = torch.stack([naive_attribution(bundled.model, encoded, target, layer) for layer in range(4)])
        first, second = row["positions"]
        edge = torch.maximum(layers[:, :, first, second], layers[:, :, second, first])
        largest = layers.flatten(2).amax(-1)
        # The head must matter too: its largest edge is at least a tenth of the largest of all heads.
        hits += bool(((edge == largest) & (largest > 0.1 * largest.max())).any())
    assert hits >= 9


def test_the_words_alone_do_not_tell_the_label(bundled: Bundled, tools: Any) -> None:
    """A linear model on the words of each text, trained on rows of the same grammar, does badly."""
    task, labels = bundled.dataset.task, bundled.dataset.labels
    vocabulary = tools.vocabulary()
    dev = [row for row in tools.dev_rows(task) if not row.artefact]
    stream = tools.training_rows(task, frozenset(row.texts for row in dev))
    train = [next(stream) for _ in range(4000)]

    def features(rows: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        matrix = torch.zeros(len(rows), 2 * len(vocabulary))
        for index, row in enumerate(rows):
            for side, words in enumerate(row.words):
                matrix[index, [side * len(vocabulary) + vocabulary[word] for word in words]] = 1
        return matrix, torch.tensor([labels.index(row.gold) for row in rows])

    inputs, gold = features(train)
    weights = torch.zeros(inputs.shape[1], len(labels), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inputs @ weights, gold) + 1e-3 * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    inputs, gold = features(dev)
    assert float(((inputs @ weights).argmax(-1) == gold).float().mean()) < 0.8


def test_the_script_writes_the_shipped_data_byte_for_byte(tmp_path: Path, tools: Any) -> None:
    tools.write_data(tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 5
    for name in written:
        assert (tmp_path / name).read_bytes() == (bundled_folder() / name).read_bytes()


def test_no_training_row_is_a_dev_row(tools: Any) -> None:
    for task in TASKS:
        held_out = frozenset(row.texts for row in tools.dev_rows(task))
        assert len(held_out) == 200
        stream = tools.training_rows(task, held_out)
        assert not held_out & {next(stream).texts for _ in range(5000)}
