"""`attattr finetune`: a toy task is learnt, and the checkpoint goes straight into `attattr run`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.toy import DECISIVE, rows_of, toy_model, toy_rows, write_sst2
from transformers import BertModel, Trainer

from attattr_batch.cli.main import run_command_line
from attattr_batch.engine.training import FinetuneSettings, _arguments

N_TRAIN, N_DEV = 200, 60
OPTIONS = "--epochs 6 --learning-rate 0.005 --batch-size 16 --seed 3".split()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder without a classifier, as one starts from."""
    return toy_model(tmp_path_factory.mktemp("base") / "encoder", kind=BertModel)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One word decides; one row is longer than the model's 64 positions."""
    train = [*toy_rows(N_TRAIN - 1, seed=1), ("good " * 100, 1)]
    return write_sst2(tmp_path_factory.mktemp("glue"), train=train, dev=toy_rows(N_DEV, seed=2))


def finetune(base: Path, data: Path, output: Path, *more: str) -> int:
    common = ["finetune", "--task", "sst2", "--base", str(base), "--data-dir", str(data), "-o", str(output)]
    return run_command_line([*common, *more])


@pytest.fixture(scope="module")
def checkpoint(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "checkpoint"
    assert finetune(base, data, output, *OPTIONS, "--quiet") == 0
    return output


def test_it_learns_and_writes_a_whole_checkpoint(checkpoint: Path) -> None:
    names = {path.name for path in checkpoint.iterdir()}
    weights = {"config.json", "model.safetensors"}
    assert names == weights | {"tokenizer.json", "tokenizer_config.json", "finetune.json"}, "no pickles"
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    record = json.loads((checkpoint / "finetune.json").read_text())
    assert record["dev_acc"] > 0.9
    settings = {key: record[key] for key in ("n_train", "epochs", "learning_rate", "batch_size", "seed")}
    assert settings == {"n_train": N_TRAIN, "epochs": 6, "learning_rate": 0.005, "batch_size": 16, "seed": 3}
    assert record["labels"] == ["negative", "positive"]


def test_it_goes_straight_into_run_with_the_same_accuracy(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "x.duckdb"
    run = ["run", "--task", "sst2", "--model", str(checkpoint), "--data-dir", str(data), "--db", str(db)]
    assert run_command_line([*run, "--format", "json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    record = json.loads((checkpoint / "finetune.json").read_text())
    assert summary["accuracy"] == pytest.approx(record["dev_acc"], abs=1e-9)
    assert (summary["labelled"], summary["quarantined"], summary["uncertified"]) == (N_DEV, 0, 0)
    # The word that decides gets the most attribution.
    ((word,),) = rows_of(
        db,
        "SELECT v.token FROM edges e JOIN runs r USING (run_id) JOIN vocabulary v"
        " ON v.tokenizer_key = r.tokenizer_key AND v.token_id = e.key_token"
        " WHERE e.target = 'gold' GROUP BY v.token ORDER BY sum(e.attr) DESC LIMIT 1",
    )
    assert word in DECISIVE


def test_the_seed_decides_and_stdout_stays_empty(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        options = ["--epochs", "1", "--limit", "40", "--seed", seed]
        assert finetune(base, data, tmp_path / name, *options) == 0
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 1 of 2, loss" in captured.err
    assert f"next: attattr run --task sst2 --model {tmp_path / 'a'} --data-dir {data}" in captured.err


def test_the_learning_rate_warms_up_over_a_tenth_and_falls_to_zero(tmp_path: Path) -> None:
    settings = FinetuneSettings("sst2", "base", None, tmp_path, 3.0, 2e-5, 32, 128, None, 0)
    trainer = Trainer(model=torch.nn.Linear(1, 1), args=_arguments(settings, str(tmp_path)))
    trainer.create_optimizer_and_scheduler(num_training_steps=50)
    rates = []
    for _ in range(50):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[:6] == pytest.approx([0, 0.4e-5, 0.8e-5, 1.2e-5, 1.6e-5, 2e-5])
    assert rates[-1] == pytest.approx(2e-5 / 45)
    assert max(rates) == rates[5]


def test_a_used_output_folder_is_refused_before_anything_else(
    checkpoint: Path, base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (checkpoint / "model.safetensors").read_bytes()
    assert finetune(base, data, checkpoint) == 2
    assert (checkpoint / "model.safetensors").read_bytes() == before
    (tmp_path / "file").touch()
    assert finetune(base, data, tmp_path / "file") == 2
    captured = capsys.readouterr().err
    assert "the output folder is not empty" in captured
    assert "the output folder cannot be made" in captured
    assert "Traceback" not in captured


def test_wrong_input_is_refused(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(base, data, tmp_path / "a", "--task", "stsb") == 2
    assert "regression" in capsys.readouterr().err
    assert finetune(tmp_path / "nothing", data, tmp_path / "b") == 2
    assert "no such model folder" in capsys.readouterr().err
    headless = write_sst2(tmp_path / "unlabelled", train=toy_rows(4, seed=1), dev=[("a good film", 7)])
    assert finetune(base, headless, tmp_path / "c") == 2
    assert "dev.tsv, column 'label', line 2: '7'" in capsys.readouterr().err


def test_a_family_that_could_not_be_attributed_is_not_trained(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Path(shutil.copytree(base, tmp_path / "mpnet"))
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "model_type": "mpnet"}))
    assert finetune(changed, data, tmp_path / "out") == 2
    assert "model family 'mpnet' is not supported" in capsys.readouterr().err


def test_a_base_of_another_kind_is_refused(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = toy_model(tmp_path / "deeper", kind=BertModel)
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert finetune(deeper, data, tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "the base model lacks weights of the encoder" in message
    assert "encoder.layer.2." in message
