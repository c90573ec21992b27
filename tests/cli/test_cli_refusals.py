"""Bad settings, models and data: a message that says what, got, allowed, next; exit code 2; nothing lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.calling import Cli, contains
from helpers.fake_cuda import pretend
from helpers.toy import toy_model, toy_tokenizer, write_sst2
from safetensors.torch import load_file, save_file
from transformers import BertModel, GPT2Config, GPT2ForSequenceClassification


@pytest.fixture
def changed(model: Path, tmp_path: Path) -> Path:
    """A copy of the model to spoil."""
    return Path(shutil.copytree(model, tmp_path / "changed"))


# Settings


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ("--task sst", ("unknown task", "got:     sst", "allowed: cola, mnli", "did you mean 'sst2'?")),
        ("--task stsb", ("regression task", "allowed: cola,")),
        ("--split deb", ("unknown GLUE split", "deb", "allowed: dev, test, train", "did you mean 'dev'?")),
        ("--limit 0", ("limit", "greater than or equal to 1")),
        ("--quadrature gauss-legendre", ("needs `nodes`", "attattr run --help")),
        ("--nodes 4", ("`nodes` needs a fixed `quadrature`",)),
        ("--tolerance 2", ("tolerance", "less than 1")),
        ("--device cuda", ("no CUDA device here", "allowed: auto, cpu")),
        ("--executor local --workers 2", ("the local executor has one worker", "`executor: ray`")),
        ("--revision main", ("only a hub model has a revision",)),
        ("--name 7up/", ("name", "should match pattern")),
        ("--limit two", ("Invalid value for '--limit'",)),
        ("--quadrature simpson", ("Invalid value for '--quadrature'", "'left-riemann'")),
        ("--no-such-flag", ("No such option: --no-such-flag",)),
    ],
)
def test_flags(cli: Cli, model: Path, data: Path, flags: str, fragments: tuple[str, ...]) -> None:
    if flags == "--device cuda" and os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a CUDA device here")
    message = cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data, *flags.split())
    assert contains(message, *fragments)


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ("--workers 3", ("more GPUs than this machine has", "3 GPUs in all, and 1 here", "at most 1;")),
        ("--device cuda --workers 3", ("3 x 1 CPUs, 1 GPUs", "next:    ask for fewer `workers`")),
        ("--dtype bfloat16", ("cannot compute in bfloat16", "Tesla T4, compute capability 7.5", "float32")),
    ],
)
def test_what_a_gpu_cannot_do(
    cli: Cli,
    model: Path,
    data: Path,
    flags: str,
    fragments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, 16, capability=(7, 5), name="Tesla T4")
    before = cli.db.read_bytes()
    message = cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data, *flags.split())
    assert contains(message, *fragments)
    assert cli.db.read_bytes() == before, "nothing was started"


@pytest.mark.parametrize("flag", ["--data-dir ./glue", "--split test", "--revision main", "--name mine"])
def test_options_about_data_without_task_or_model(cli: Cli, flag: str) -> None:
    message = cli.refuses("run", *flag.split(), "--limit", 1)
    assert contains(message, "do not say what to attribute", f"got:     {flag}\n", "give --task or --dataset")


@pytest.mark.parametrize(
    ("spec", "fragments"),
    [
        ("task: sst2\nmodle: x", ("unknown key 'modle' (did you mean 'model'?)", "model: Field required")),
        ("task: [sst2\nmodel: x", ("the run spec is not valid YAML", "line 2")),
        ("model: .", ("give `task` (a GLUE task) or `dataset`",)),
        ("- task: sst2", ("a run spec must be a mapping", "list", "`defaults:` and `runs:`")),
        ("runs: []", ("runs: ", "at least 1")),
        ("runs: [sst2]", ("runs.0: ", "dictionary")),
        ("task: sst2\nmodel: .\nlimit: many", ("limit: Input should be a valid integer",)),
    ],
)
def test_specs(cli: Cli, tmp_path: Path, spec: str, fragments: tuple[str, ...]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(spec)
    assert contains(cli.refuses("run", path), str(path), *fragments)


def test_a_spec_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    assert contains(
        cli.refuses("run", tmp_path / "no.yaml"), "cannot read the run spec", "no.yaml", "check the path"
    )


def test_commands(cli: Cli) -> None:
    assert contains(cli.bare("sttus").err, "No such command 'sttus'. Did you mean 'status'?")
    assert cli.bare("sttus").code == 2
    assert contains(cli.refuses("rm", "frist", "-y"), "no such run", "first (1)", "did you mean 'first'?")
    assert contains(cli.refuses("sql", "SELEC 1"), "syntax error")
    assert contains(cli.refuses("sql", "DROP TABLE runs"), "only queries that read are allowed")
    assert contains(cli.refuses("sql", "COPY runs TO '/tmp/x.csv'"), "only queries that read are allowed")


# Models


def configure(model: Path, **settings: object) -> None:
    """Changes the model's configuration."""
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def refuses_model(cli: Cli, model: object, data: Path) -> str:
    return cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data, "--name", "second")


def test_no_model_folder(cli: Cli, data: Path, tmp_path: Path) -> None:
    message = refuses_model(cli, tmp_path / "nothing", data)
    assert contains(message, "no such model folder", "nothing", "allowed: a folder, or a hub id")
    assert contains(refuses_model(cli, tmp_path, data), "no config.json", str(tmp_path))


def test_a_bundled_model_without_a_task(cli: Cli, tmp_path: Path) -> None:
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("sentence,label\na good film,1\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"{{model: bundled, dataset: {reviews}, columns: {{text_a: sentence, label: label}}}}")
    message = cli.refuses("run", spec)
    assert contains(message, "a bundled model needs its task", "allowed: mnli, mrpc, rte, sst2")


def test_no_weights(cli: Cli, data: Path, changed: Path) -> None:
    (changed / "model.safetensors").unlink()
    message = refuses_model(cli, changed, data)
    assert contains(message, "no safetensors weights", "no weights", "allowed: *.safetensors")
    (changed / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    message = refuses_model(cli, changed, data)
    assert contains(message, "no safetensors weights", "pytorch_model.bin", "save_pretrained")


def test_truncated_weights(cli: Cli, data: Path, changed: Path) -> None:
    weights = changed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert contains(refuses_model(cli, changed, data), "the model cannot be loaded", str(changed))


def test_weights_that_are_no_numbers(cli: Cli, data: Path, changed: Path) -> None:
    tensors = load_file(changed / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    assert contains(refuses_model(cli, changed, data), "weights that are no numbers", "classifier.bias")


def test_no_classifier_head_then_mended(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    headless = toy_model(tmp_path / "headless", kind=BertModel)
    message = refuses_model(cli, headless, data)
    assert contains(message, "lacks weights, so they would be random", "classifier.bias, classifier.weight")
    assert contains(message, "allowed: a fine-tuned sequence classifier", "attattr finetune --help")
    run = ["run", "--task", "sst2", "--data-dir", data, "--limit", 2, "--name", "second"]
    assert cli(*run, "--model", model).code == 0, "the failed run must not keep the name"
    assert cli("rm", "second", "-y").code == 0


def test_another_number_of_labels(cli: Cli, data: Path, tmp_path: Path) -> None:
    three = toy_model(tmp_path / "three", labels=("negative", "neutral", "positive"))
    message = refuses_model(cli, three, data)
    assert contains(message, "different numbers of labels", "model: 3 (negative, neutral, positive)")
    assert contains(message, "dataset: 2 (negative, positive)", "choose a model fine-tuned for this task")


def test_a_regression_head(cli: Cli, data: Path, tmp_path: Path) -> None:
    message = refuses_model(cli, toy_model(tmp_path / "one", labels=("score",)), data)
    assert contains(message, "regression head", "1 outputs", "allowed: 2 or more classes")


def test_several_labels_at_once(cli: Cli, data: Path, changed: Path) -> None:
    configure(changed, problem_type="multi_label_classification")
    message = refuses_model(cli, changed, data)
    assert contains(message, "no class scores", "problem_type: multi_label_classification")


def test_weights_of_another_architecture(cli: Cli, data: Path, changed: Path) -> None:
    """With them the folder holds another model than the one that would be attributed."""
    weights = load_file(changed / "model.safetensors")
    unused = {"cls.predictions.bias": torch.zeros(4), "bert.pooler.other.weight": torch.zeros(4)}
    save_file(weights | unused, changed / "model.safetensors", metadata={"format": "pt"})
    run = ["run", "--task", "sst2", "--data-dir", data, "--limit", 2, "--name", "second"]
    assert cli(*run, "--model", changed).code == 0
    assert cli("rm", "second", "-y").code == 0
    distances = {"bert.encoder.layer.0.attention.self.distance_embedding.weight": torch.zeros(9, 4)}
    save_file(weights | distances, changed / "model.safetensors", metadata={"format": "pt"})
    assert contains(refuses_model(cli, changed, data), "does not use, so it would be another", *distances)
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    configure(changed, num_hidden_layers=1)
    assert contains(refuses_model(cli, changed, data), "another model", "bert.encoder.layer.1.")


def test_a_family_is_refused_by_its_configuration(cli: Cli, data: Path, changed: Path) -> None:
    for kind, message in (("fnet", "attention interface"), ("mpnet", "attention interface")):
        configure(changed, model_type=kind)
        refused = refuses_model(cli, changed, data)
        assert contains(refused, f"model family '{kind}' is not supported", message)


@pytest.mark.parametrize("option", ["--model", "--data-dir", "--dataset"])
@pytest.mark.parametrize("path", ["~nobody-of-that-name/m", f"/{'x' * 5000}"])
def test_paths_that_nobody_can_write(cli: Cli, data: Path, model: Path, option: str, path: str) -> None:
    given = {"--task": "sst2", "--model": str(model), "--data-dir": str(data)}
    if option == "--dataset":
        del given["--data-dir"]
    message = cli.refuses("run", *(word for pair in (given | {option: path}).items() for word in pair))
    assert contains(message, "path", "cannot be used")


def test_labels_of_other_names(cli: Cli, data: Path, tmp_path: Path) -> None:
    message = refuses_model(cli, toy_model(tmp_path / "other", labels=("bad", "good")), data)
    assert contains(message, "which output", "bad -> ?", "{bad: negative, good: positive}")


def test_no_tokenizer(cli: Cli, data: Path, changed: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (changed / name).unlink()
    assert contains(refuses_model(cli, changed, data), "the model has no tokenizer", "tokenizer.json")


def test_the_tokenizer_of_another_model(cli: Cli, data: Path, tmp_path: Path) -> None:
    small = toy_model(tmp_path / "small", vocab_size=9)
    assert contains(refuses_model(cli, small, data), "does not belong to the model", "ids below 9")


def test_an_unsupported_family(cli: Cli, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decoder"
    toy_tokenizer(folder)
    names = {0: "negative", 1: "positive"}
    config = GPT2Config(vocab_size=40, n_positions=64, n_embd=8, n_layer=1, n_head=1, id2label=names)
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    assert contains(
        refuses_model(cli, folder, data), "'gpt2' is not supported", "allowed: bert", "modernbert"
    )


def test_a_configuration_cut_short(cli: Cli, data: Path, changed: Path) -> None:
    (changed / "config.json").write_text('{"model_type": "bert"')
    assert contains(
        refuses_model(cli, changed, data), "the model's configuration cannot be used", "config.json"
    )


def test_code_in_a_model_folder_is_never_run(cli: Cli, data: Path, changed: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    (changed / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\n")
    config = json.loads((changed / "config.json").read_text())
    own = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.C"}
    (changed / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": own}))
    message = refuses_model(cli, changed, data)
    assert contains(message, "configuration cannot be used", "code from a model folder is never run")
    assert not trace.exists()


# Data


def refuses_rows(cli: Cli, model: Path, data: Path, *flags: str) -> str:
    return cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data, *flags)


def test_no_data(cli: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    assert contains(refuses_rows(cli, model, tmp_path / "nothing"), "the data folder does not exist")
    message = refuses_rows(cli, model, data, "--task", "rte")
    assert contains(message, "lacks the task's file", "RTE/dev.tsv", "found there: sst2 (dev)")


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (b"sentence\tlabel\na good film\t1\nno label here\n", ("too few fields", "line 3: 1 fields")),
        (b"sentence\tlabel\na good film\t1\nbad\t0\textra\n", ("too many fields", "line 3: 3 fields")),
        (b"sentence\tlabel\na good film\tgreat\n", ("unknown label", "line 2: 'great'", "negative (0)")),
        (b"sentence\tlabel\na good film\t1\ncaf\xe9\t0\n", ("is not UTF-8", "line 3: byte 0xe9")),
        (b"text\tlabel\na good film\t1\n", ("lacks a column", "missing 'sentence'", "'text', 'label'")),
        (b"sentence\tlabel\n", ("the split has no rows", "dev.tsv")),
        (b"", ("file is empty", "dev.tsv")),
    ],
)
def test_broken_files(
    cli: Cli, model: Path, tmp_path: Path, content: bytes, fragments: tuple[str, ...]
) -> None:
    broken = write_sst2(tmp_path / "broken", dev=[])
    (broken / "SST-2" / "dev.tsv").write_bytes(content)
    assert contains(refuses_rows(cli, model, broken), "dev.tsv", *fragments)


def test_own_data(cli: Cli, model: Path, tmp_path: Path) -> None:
    reviews, spec = tmp_path / "reviews.csv", tmp_path / "spec.yaml"
    reviews.write_text("review,stars\na good film,1\n")
    columns = "columns: {text_a: text, label: stars}"
    spec.write_text(f"model: {model}\ndataset: reviews.csv\nlabels: [negative, positive]\n{columns}\n")
    assert contains(cli.refuses("run", spec), "lacks a column", "missing 'text'", "'review', 'stars'")
    message = cli.refuses("run", spec, "--dataset", tmp_path / "other.csv")
    assert contains(message, "no such data file or folder", "other.csv")
    message = cli.refuses("run", "--model", model, "--dataset", reviews)
    assert contains(message, "`dataset` needs `columns`", "for example `columns: {text_a: sentence")
