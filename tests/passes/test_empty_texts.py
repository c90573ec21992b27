"""Texts of which a tokenizer makes nothing, or nothing but special tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.toy import toy_model, write_sst2
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attattr_batch import attribute
from attattr_batch.errors import UserError
from attattr_batch.passes.planning import AttributionPlan, plan_attribution
from attattr_batch.spec import make_spec

INVISIBLE = "\u200b"  # not white space to Python, nothing to BERT's tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = toy_model(tmp_path_factory.mktemp("bare") / "model")
    # As the file says, and not as BERT's own class completes it.
    for name, changes in (
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        path = folder / name
        document = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(document | changes), encoding="utf-8")
    return folder


def planned(model: Path, folder: Path, *texts: str) -> AttributionPlan:
    data = write_sst2(folder, dev=[(text, 0) for text in texts])
    return plan_attribution(make_spec({"task": "sst2", "model": str(model), "data_dir": str(data)}))


def test_they_are_quarantined_and_the_rest_is_attributed(model: Path, tmp_path: Path) -> None:
    plan = planned(model, tmp_path, "a good film", "", INVISIBLE)
    assert [len(example.input_ids) for example in plan.examples] == [3, 0, 0]
    assert plan.unfit == {1: "empty text", 2: "empty text"}
    assert plan.tables()["tokens"].num_rows == 3


def test_special_tokens_alone_are_no_text(tmp_path: Path) -> None:
    plan = planned(toy_model(tmp_path / "model"), tmp_path / "data", "a good film", INVISIBLE)
    assert [len(example.input_ids) for example in plan.examples] == [5, 2]
    assert plan.unfit == {1: "empty text"}


def test_a_split_may_hold_nothing_else(model: Path, tmp_path: Path) -> None:
    plan = planned(model, tmp_path, "", INVISIBLE)
    assert set(plan.unfit) == {0, 1}
    tokens = plan.tables()["tokens"]
    assert tokens.num_rows == 0
    assert tokens.column_names == ["example_id", "position", "token_id", "segment", "word"]


def test_a_single_one_is_refused(model: Path) -> None:
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with pytest.raises(UserError, match="makes no token of the text"):
        attribute(loaded, AutoTokenizer.from_pretrained(model), INVISIBLE)
