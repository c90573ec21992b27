"""Attribution of one text without a store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.attributing import attribute as attribute_batch
from helpers.naive import reference
from helpers.toy import MAX_TOKENS, VOCABULARY, toy_model, toy_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

import attattr_batch
from attattr_batch import Attribution, Edge, TerminalError, UserError, attribute
from attattr_batch.engine.families import Batch
from attattr_batch.engine.path import Items
from attattr_batch.engine.quadrature import gauss_legendre
from attattr_batch.spec import MethodSettings

TEXT, PAIR = "a very good film", "the plot was bad and not good"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("api") / "model", labels=("negative", "neutral", "positive"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(folder: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()


def test_a_pair(model: Any, tokenizer: Any) -> None:
    found = attribute(model, tokenizer, TEXT, PAIR)
    assert isinstance(found, Attribution)
    tokens = ["[CLS]", *TEXT.split(), "[SEP]", *PAIR.split(), "[SEP]"]
    assert found.tokens == tokens
    assert found.segments == [None, 0, 0, 0, 0, None, 1, 1, 1, 1, 1, 1, 1, None]
    assert found.truncated is False
    assert found.scores.shape == found.attention.shape == (2, 2, 14, 14)
    assert found.scores.dtype == found.attention.dtype == found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.attention.sum(-1), 1, rtol=1e-5)
    with torch.no_grad():
        expected = model(**tokenizer(TEXT, PAIR, return_tensors="pt")).logits[0].softmax(-1).numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.label == expected.argmax()
    assert found.label_name == model.config.id2label[found.label]
    assert found.f_full == pytest.approx(expected.max())
    error = found.scores.sum((1, 2, 3)) - (found.f_full - found.f_zero)
    np.testing.assert_allclose(found.completeness_error, error, atol=1e-6)
    assert np.abs(error).max() <= 1e-3
    assert found.f_zero.shape == found.nodes.shape == (2,)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_scores_equal_the_naive_loop(model: Any, tokenizer: Any, label: int) -> None:
    found = attribute(model, tokenizer, TEXT, PAIR, label=label, quadrature="gauss-legendre", nodes=6)
    inputs = dict(tokenizer(TEXT, PAIR, return_tensors="pt"))
    expected = reference(model.double(), inputs, torch.tensor([label]), gauss_legendre(6))
    for layer in range(2):
        scores = expected.scores[layer][0].detach().numpy()
        assert np.abs(found.scores[layer] - scores).max() < 1e-5 * np.abs(scores).max()
        np.testing.assert_allclose(found.attention[layer], expected.attention[layer][0], atol=1e-6)
        assert found.f_zero[layer] == pytest.approx(float(expected.f_zero[layer]), abs=1e-6)
    assert found.label == label
    assert found.nodes.tolist() == [6, 6]


def test_labels_by_name_and_by_index_are_the_same(model: Any, tokenizer: Any) -> None:
    by_name = attribute(model, tokenizer, TEXT, label="positive")
    by_index = attribute(model, tokenizer, TEXT, label=2)
    by_numpy = attribute(model, tokenizer, TEXT, label=np.argmax([0, 1, 5]))  # type: ignore[arg-type]
    assert by_name.label == by_index.label == by_numpy.label == 2
    assert by_name.label_name == "positive"
    np.testing.assert_array_equal(by_name.scores, by_index.scores)
    np.testing.assert_array_equal(by_name.scores, by_numpy.scores)


def test_settings_reach_the_engine(model: Any, tokenizer: Any) -> None:
    exact = attribute(model, tokenizer, TEXT)
    half = attribute(model, tokenizer, TEXT, dtype="bfloat16", quadrature="gauss-legendre", nodes=8)
    assert 1e-5 < np.abs(half.scores - exact.scores).max() / np.abs(exact.scores).max() < 5e-2
    strict = attribute(model, tokenizer, TEXT, tolerance=1e-6)
    assert strict.nodes.max() > exact.nodes.max()


def test_a_folder_is_enough(folder: Path, model: Any, tokenizer: Any) -> None:
    expected = attribute(model, tokenizer, TEXT)
    for source in (folder, str(folder)):
        np.testing.assert_allclose(attribute(source, None, TEXT).scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(attribute(folder, tokenizer, TEXT).scores, expected.scores, atol=1e-6)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "deberta-v2"])
def test_other_families(kind: str, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tiny.takes_segments(kind):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = tiny.classifier(kind, initializer_range=0.1)
    found = attribute(model, tokenizer, TEXT)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    batch = Batch(
        ids, torch.ones_like(ids, dtype=torch.bool), None, torch.ones_like(ids, dtype=torch.bool), False
    )
    expected = attribute_batch(
        model, batch, Items(torch.tensor([0]), torch.tensor([found.label])), MethodSettings()
    )
    for layer, result in enumerate(expected):
        scores = result.scores[0].numpy()
        np.testing.assert_allclose(found.scores[layer][:, : scores.shape[1]], scores, atol=1e-6)
        assert not found.scores[layer][:, scores.shape[1] :].any()


def test_long_texts_are_cut_to_what_model_and_caller_allow(model: Any, tokenizer: Any) -> None:
    cut = attribute(model, tokenizer, "good " * 500, max_length=10)
    assert cut.truncated is True
    assert cut.tokens == ["[CLS]", *["good"] * 8, "[SEP]"]
    short = attribute(model, tokenizer, "good " * 500, quadrature="left-riemann", nodes=1)
    assert len(short.tokens) == MAX_TOKENS


def test_top_edges(model: Any, tokenizer: Any) -> None:
    found = attribute(model, tokenizer, TEXT, PAIR)
    everything = found.top_edges(10**6)
    assert len(everything) == int((found.scores > 0).sum())
    assert all(isinstance(edge, Edge) for edge in everything)
    scores = [edge.score for edge in everything]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == found.scores.max()
    for edge in everything[:20]:
        place = (edge.layer, edge.head, edge.query, edge.key)
        assert edge.score == found.scores[place]
        assert edge.attention == found.attention[place]
        assert edge.query_token == found.tokens[edge.query]
        assert edge.key_token == found.tokens[edge.key]
    assert found.top_edges(3) == everything[:3]
    assert found.top_edges(0) == []
    for layer, head in ((1, None), (None, 1), (0, 1)):
        part = [edge for edge in everything if layer in (None, edge.layer) and head in (None, edge.head)]
        assert found.top_edges(4, layer, head) == part[:4]


def test_top_edges_of_what_is_not_there(model: Any, tokenizer: Any) -> None:
    found = attribute(model, tokenizer, TEXT)
    with pytest.raises(UserError, match="no such layer\n  got: +2\n  allowed: 0 to 1"):
        found.top_edges(3, layer=2)
    with pytest.raises(UserError, match="no such head"):
        found.top_edges(3, head=-1)
    with pytest.raises(UserError, match="negative number"):
        found.top_edges(-1)


def test_complete_matrices_for_bertviz(model: Any, tokenizer: Any) -> None:
    found = attribute(model, tokenizer, TEXT, PAIR)
    document = json.loads(found.bertviz_json())
    layers = np.stack([np.array(layer)[0] for layer in document["attention"]])
    np.testing.assert_allclose(layers, found.scores, atol=1e-9)
    assert (layers < 0).any()
    assert document["tokens"] == found.tokens
    assert document["sentence_b_start"] == found.segments.index(1) == 6
    assert document["about"]["attributed class"] == found.label_name


def test_repr_is_short_and_says_what_it_is(model: Any, tokenizer: Any) -> None:
    found = attribute(model, tokenizer, TEXT, label="neutral")
    text = repr(found)
    assert text.startswith(f"Attribution('neutral' {found.f_full:.3f}: 2 layers x 2 heads x 6 tokens")
    assert "completeness error" in text
    assert "\n" not in text


def test_the_model_is_left_as_it_was(model: Any, tokenizer: Any) -> None:
    """Dropout is off during the call and on again after it."""
    expected = attribute(model, tokenizer, TEXT).scores
    model.train()
    model.bert.encoder.layer[0].eval()
    model.classifier.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    np.testing.assert_allclose(attribute(model, tokenizer, TEXT).scores, expected, atol=1e-7)
    with pytest.raises(UserError):
        attribute(model, tokenizer, TEXT, label=7)
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(TerminalError, match="weights are broken"):
        attribute(model, tokenizer, TEXT)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_a_block_without_gradients(model: Any, tokenizer: Any, mode: Any) -> None:
    expected = attribute(model, tokenizer, TEXT).scores
    with mode():
        np.testing.assert_allclose(attribute(model, tokenizer, TEXT).scores, expected, atol=1e-7)
        assert not torch.is_grad_enabled()


def test_a_model_in_float64(model: Any, tokenizer: Any) -> None:
    expected = attribute(model, tokenizer, TEXT).scores
    found = attribute(model.double(), tokenizer, TEXT).scores
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": 3}, "no such label\n  got: +3\n  allowed: 0 to 2"),
        ({"label": -1}, "no such label"),
        ({"label": "postive"}, "unknown label of the model\n.*\n.*\n  next: +did you mean 'positive'"),
        ({"text": "  "}, "a text must be a string that is not empty"),
        ({"text": ["a", "b"]}, "a text must be a string"),
        ({"text_pair": ""}, "a text must be a string that is not empty"),
        ({"quadrature": "simpson"}, "quadrature: Input should be"),
        ({"quadrature": "left-riemann"}, "needs `nodes`"),
        ({"nodes": 4}, "`nodes` needs a fixed `quadrature`"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"dtype": "float64"}, "dtype"),
        ({"max_length": 2}, "max_length"),
        ({"tokenizer": None}, "a model needs its fast tokenizer, which reports segments\n  got: +NoneType"),
        ({"tokenizer": 42}, "a model needs its fast tokenizer, which reports segments\n  got: +int"),
        ({"model": 42}, "not a model of transformers\n  got: +int"),
        ({"model": "/nowhere/at/all"}, "no such model folder"),
    ],
    ids=str,
)
def test_wrong_use(model: Any, tokenizer: Any, options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "text": TEXT, **options}
    with pytest.raises(UserError, match=message):
        attribute(**arguments)


def test_models_that_have_no_class_probabilities(model: Any, tokenizer: Any, folder: Path) -> None:
    with pytest.raises(UserError, match="no sequence classifier\n  got: +BertModel"):
        attribute(BertModel(model.config), tokenizer, TEXT)
    regression = tiny.classifier("bert", num_labels=1)
    with pytest.raises(UserError, match="regression head"):
        attribute(regression, tokenizer, TEXT)
    with pytest.raises(UserError, match="half precision\n  got: +torch.float16\n  next: +call `model.float"):
        attribute(model.half(), tokenizer, TEXT)


def test_a_foreign_tokenizer(tokenizer: Any) -> None:
    small = tiny.classifier("bert", vocab_size=10)
    with pytest.raises(UserError, match="the tokenizer does not belong to the model"):
        attribute(small, tokenizer, TEXT)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    toy_tokenizer(tmp_path)
    with pytest.raises(UserError, match="no config.json"):
        attribute(tmp_path, None, TEXT)


def test_importing_the_package_stays_cheap() -> None:
    program = (
        "import sys, attattr_batch; from attattr_batch import UserError;"
        "heavy = {'torch', 'transformers', 'duckdb', 'ray', 'numpy', 'pyarrow'} & set(sys.modules);"
        "print(sorted(heavy), 'attribute' in dir(attattr_batch))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_only_public_names_are_lazy() -> None:
    assert attattr_batch.attribute is attribute
    with pytest.raises(AttributeError, match="no attribute 'atribute'"):
        attattr_batch.atribute  # noqa: B018


def test_the_toy_vocabulary_holds_the_texts() -> None:
    assert set(f"{TEXT} {PAIR}".split()) <= set(VOCABULARY)
