from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attattr_batch.data.records import Dataset, Example
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings, make_settings


def load(**keys: Any) -> Dataset:
    return load_dataset_for(make_settings(DataSettings, keys))


@pytest.fixture
def glue(tmp_path: Path) -> Path:
    files = {
        "SST-2/dev.tsv": "sentence\tlabel\nbad film \t0\ngood film \t1\n",
        "SST-2/train.tsv": "sentence\tlabel\n",
        "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n",
        "MNLI/dev_mismatched.tsv": "sentence1\tsentence2\tgold_label\na\tb\t-\n",
        "STS-B/dev.tsv": "index\tsentence1\tsentence2\tscore\n0\ta\tb\t5.000\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_glue_folder_gives_the_tasks_rows_and_labels(glue: Path) -> None:
    dataset = load(task="sst2", data_dir=str(glue))
    assert (dataset.task, dataset.split, dataset.revision) == ("sst2", "dev", None)
    assert dataset.source == str(glue / "SST-2" / "dev.tsv")
    assert dataset.labels == ("negative", "positive")
    assert dataset.examples == (Example(0, "bad film", None, 0), Example(1, "good film", None, 1))
    assert len(load(task="sst2", data_dir=str(glue), limit=1)) == 1
    assert load(task="mnli_mismatched", data_dir=str(glue)).examples == (Example(0, "a", "b", None),)


def test_a_missing_file_lists_the_tasks_that_are_there(glue: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*QNLI.dev\.tsv") as caught:
        load(task="qnli", data_dir=str(glue))
    assert "mnli_mismatched (dev), rte (dev), sst2 (train), sst2 (dev)" in str(caught.value)
    assert "stsb" not in str(caught.value)
    with pytest.raises(UserError, match="data folder does not exist"):
        load(task="qnli", data_dir=str(glue / "nowhere"))


def test_regression_is_refused_with_its_reason(glue: Path) -> None:
    with pytest.raises(UserError, match="softmax of one output is constantly 1"):
        load(task="stsb", data_dir=str(glue))
    with pytest.raises(UserError, match="regression"):
        load(task="stsb")


def test_no_rows_unknown_tasks_and_unknown_splits_are_refused(glue: Path) -> None:
    with pytest.raises(UserError, match="no rows"):
        load(task="sst2", data_dir=str(glue), split="train")
    with pytest.raises(UserError, match="unknown task\n(.*\n)*.*did you mean 'sst2'"):
        load(task="sst-2", data_dir=str(glue))
    with pytest.raises(UserError, match="unknown GLUE split\n.*validation\n.*dev, test, train"):
        load(task="sst2", data_dir=str(glue), split="validation")


@pytest.mark.parametrize(
    "key",
    [
        {"labels": ["a", "b"]},
        {"columns": {"text_a": "x"}},
        {"dataset_config": "x"},
        {"dataset_revision": "x"},
    ],
)
def test_settings_that_would_be_ignored_are_refused(glue: Path, key: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"do not go with.*\n.*{next(iter(key))}"):
        load(task="sst2", data_dir=str(glue), **key)


def test_the_bundled_data_need_no_path() -> None:
    dataset = load(task="rte", data_dir="bundled", limit=3)
    assert dataset.source == "bundled: RTE/dev.tsv"
    assert [row.example_id for row in dataset] == [0, 1, 2]
    found = r"lacks the task's file(.*\n)*.*mnli \(dev\), mrpc \(dev\), rte \(dev\), sst2"
    with pytest.raises(UserError, match=found):
        load(task="cola", data_dir="bundled")


def test_own_data_need_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text\nhello\n")
    for columns in (None, {"label": "y"}):
        with pytest.raises(UserError, match="needs `columns`"):
            load(dataset=str(path), columns=columns)
