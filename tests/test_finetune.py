"""`attattr finetune`: a toy task is learnt, and the checkpoint goes straight into `attattr run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import rows_of, toy_model, toy_rows, write_sst2
from transformers import BertModel

from attattr_batch.cli.main import run_command_line

N_DEV = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder without a classifier, as one starts from."""
    return toy_model(tmp_path_factory.mktemp("base") / "encoder", kind=BertModel)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=toy_rows(200, seed=1), dev=toy_rows(N_DEV, seed=2))


def finetune(base: Path, data: Path, output: Path, *more: str) -> int:
    common = ["finetune", "--task", "sst2", "--base", str(base), "--data-dir", str(data), "-o", str(output)]
    return run_command_line([*common, "--quiet", *more])


@pytest.fixture(scope="module")
def checkpoint(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "checkpoint"
    options = "--epochs 8 --learning-rate 0.003 --batch-size 16 --seed 3"
    assert finetune(base, data, output, *options.split()) == 0
    return output


def test_it_learns_and_writes_a_whole_checkpoint(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))], "pickles"
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    record = json.loads((checkpoint / "finetune.json").read_text())
    assert record["dev_acc"] > 0.9
    assert record["n_train"] == 200
    assert record["labels"] == ["negative", "positive"]
    assert (record["epochs"], record["learning_rate"], record["batch_size"], record["seed"]) == (8, 0.003, 16, 3)


def test_it_goes_straight_into_run_with_the_same_accuracy(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "x.duckdb"
    run = ["run", "--task", "sst2", "--model", str(checkpoint), "--data-dir", str(data), "--db", str(db)]
    assert run_command_line([*run, "--format", "json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    dev_acc = json.loads((checkpoint / "finetune.json").read_text())["dev_acc"]
    assert summary["accuracy"] == pytest.approx(dev_acc, abs=1e-9)
    assert (summary["labelled"], summary["quarantined"], summary["uncertified"]) == (N_DEV, 0, 0)
    # The word that decides carries more attribution than any other.
    (word,) = rows_of(
        db,
        "SELECT v.token FROM edges e JOIN runs r USING (run_id) JOIN vocabulary v"
        " ON v.tokenizer_key = r.tokenizer_key AND v.token_id = e.key_token"
        " WHERE e.target = 'gold' AND e.layer = 0 GROUP BY v.token ORDER BY sum(e.attr) DESC LIMIT 1",
    )
    assert word[0] in ("good", "bad")
