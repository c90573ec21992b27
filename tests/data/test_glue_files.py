"""The real GLUE files: row and label counts equal to the official ones and to a plain count of the file."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from attattr_batch.data.sources import load_dataset_for
from attattr_batch.data.tasks import glue_task
from attattr_batch.spec import DataSettings

pytestmark = pytest.mark.real

OFFICIAL = {
    "sst2": {"negative": 428, "positive": 444},
    "rte": {"entailment": 146, "not_entailment": 131},
    "mnli": {"entailment": 3479, "neutral": 3123, "contradiction": 3213},
    "cola": {"unacceptable": 322, "acceptable": 721},
    "qnli": {"entailment": 2702, "not_entailment": 2761},
    "wnli": {"not_entailment": 40, "entailment": 31},
}


@pytest.fixture(scope="module")
def glue() -> Path:
    folder = os.environ.get("ATTATTR_REAL_DATA")
    if not folder:
        pytest.skip("ATTATTR_REAL_DATA is not set")
    return Path(folder) / "data" / "glue"


@pytest.mark.parametrize("name", OFFICIAL)
def test_counts_are_the_official_ones_and_the_files(glue: Path, name: str) -> None:
    dataset = load_dataset_for(DataSettings(task=name, data_dir=str(glue)))
    assert Counter(dataset.labels[row.gold] for row in dataset if row.gold is not None) == OFFICIAL[name]

    task = glue_task(name)
    lines = (glue / task.folder / task.file("dev")).read_bytes().removesuffix(b"\n").split(b"\n")
    column = 1 if name == "cola" else -1
    counted = Counter(line.split(b"\t")[column].decode() for line in lines[name != "cola" :])
    assert sum(counted.values()) == len(dataset)
    assert counted == {
        (label if label in counted else str(index)): OFFICIAL[name][label]
        for index, label in enumerate(dataset.labels)
    }
