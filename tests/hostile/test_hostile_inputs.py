"""Models, data, names and texts from somebody who means harm: refused, or shown as what they are."""

from __future__ import annotations

import csv
import io
import json
import logging
import pickle
import shutil
import struct
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.calling import Cli, contains, fill
from helpers.poison import poisoned
from helpers.toy import rows_of, toy_model, toy_rows, write_sst2
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from attattr_batch.api import attribute
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_tokenizer
from attattr_batch.engine.training import finetune_task
from attattr_batch.errors import ModelGoneError, UserError
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.passes.planning import plan_attribution
from attattr_batch.passes.reopening import plan_request
from attattr_batch.passes.requests import Request
from attattr_batch.report.html import write_report
from attattr_batch.spec import FinetuneSettings, MachineSettings, MethodSettings, make_settings, make_spec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.runs import resolve_run

N = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("models") / "good")


@pytest.fixture
def changed(model: Path, tmp_path: Path) -> Path:
    """A copy of the model to poison."""
    return Path(shutil.copytree(model, tmp_path / "changed"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_sst2(tmp_path / "glue", dev=toy_rows(N, seed=1))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return Cli(capsys, tmp_path / "store.duckdb")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


# Models


def run(cli: Cli, model: Path, data: Path) -> str:
    return cli.refuses("run", "--task", "sst2", "--model", model, "--data-dir", data)


def test_pickles_beside_the_weights_are_not_opened(
    cli: Cli, changed: Path, data: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "it-ran"
    names = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "model.ckpt")
    for name in names:
        (changed / name).write_bytes(pickle.dumps(Payload(trace)))
    answer = cli("run", "--task", "sst2", "--model", changed, "--data-dir", data)
    assert answer.code == 0, answer.err
    (changed / "model.safetensors").unlink()
    contains(run(cli, changed, data), "no safetensors weights", "unpickling runs code")
    shutil.copy(changed / "pytorch_model.bin", changed / "model.safetensors")
    contains(run(cli, changed, data), "the model cannot be loaded")
    assert not trace.exists()
    pickle.loads((changed / "pytorch_model.bin").read_bytes())
    assert trace.exists()  # the payload works


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": "two"},
        {"num_attention_heads": 10**9},
        {"num_attention_heads": 0},
        {"hidden_size": 10**12},
        {"hidden_size": 17},
        {"intermediate_size": 10**15},
        {"vocab_size": 10**15},
        {"vocab_size": 2**22},
        {"num_hidden_layers": 256},
        {"max_position_embeddings": 10**15},
        {"max_position_embeddings": 0},
        {"id2label": {str(n): "x" for n in range(100_000)}},
        {"id2label": {"0": ["a"], "1": {"b": 1}}},
        {"id2label": "abc"},
        {"num_labels": 10**9},
        {"hidden_act": "__import__('os').system('true')"},
        {"layer_norm_eps": "small"},
        {"model_type": ["bert"]},
        {"model_type": "../../bert"},
        {"pad_token_id": 10**12},
        {"attn_implementation": "https://example.com/kernel"},
        {"_attn_implementation": "org/kernel"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_odd_configurations(cli: Cli, changed: Path, data: Path, change: dict[str, Any]) -> None:
    """Refused in words and soon."""
    configure(changed, change)
    message = run(cli, changed, data)
    contains(message, "error: the model")
    assert len(message) < 5000


def configure(model: Path, change: dict[str, Any]) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.fixture(scope="module")
def clean_rows(filled: Path) -> list[tuple[Any, ...]]:
    return rows_of(filled, HEADS)


HEADS = "SELECT * FROM head_scores ORDER BY ALL"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"architectures": 7}),
        ("config.json", {"torch_dtype": "__builtins__"}),
        ("config.json", {"quantization_config": {"quant_method": "nope"}}),
        ("tokenizer_config.json", {"tokenizer_class": "os.system"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_odd_settings_that_nothing_reads(
    cli: Cli, changed: Path, data: Path, clean_rows: list[Any], name: str, content: dict[str, Any]
) -> None:
    """The run is that of the model without them, to the last digit."""
    (changed / "evil.py").write_text("raise SystemExit('it ran')\n")
    path = changed / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    answer = cli("run", "--task", "sst2", "--model", changed, "--data-dir", data, "--executor", "local")
    assert answer.code == 0, answer.err
    assert rows_of(cli.db, HEADS) == clean_rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"7"),
        ("config.json", b"[" * 100_000),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "BPE"}}'),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer_config.json", b"[]"),
        ("model.safetensors", b""),
        ("model.safetensors", struct.pack("<Q", 2**60)),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../../../../etc/passwd"}}'),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:24]),
)
def test_odd_files_in_a_model_folder(cli: Cli, changed: Path, data: Path, name: str, content: bytes) -> None:
    (changed / name).write_bytes(content)
    message = run(cli, changed, data)
    contains(message, "error: the model")
    assert len(message) < 5000


def by_attribute(folder: Path, data: Path) -> None:
    attribute(folder, None, "a good film")


def by_run(folder: Path, data: Path) -> None:
    plan_attribution(make_spec({"task": "sst2", "model": str(folder), "data_dir": str(data)}))


def by_finetune(folder: Path, data: Path) -> None:
    shutil.copy(data / "SST-2" / "dev.tsv", data / "SST-2" / "train.tsv")
    where = {"task": "sst2", "base": str(folder), "data_dir": str(data), "output": data / "tuned"}
    finetune_task(make_settings(FinetuneSettings, where | {"epochs": 1, "batch_size": 4, "max_length": 16}))


def by_worker(folder: Path, data: Path) -> None:
    """A worker's copy of the folder may have become another one since the driver looked."""
    source = ModelSource(str(folder), folder)
    AttributeWork(
        source=source, device="cpu", method=MethodSettings(), outputs=(0, 1), batch_tokens=128
    ).start()


def by_tokenizer(folder: Path, data: Path) -> None:
    load_tokenizer(ModelSource(str(folder), folder))


INDEX = "model.safetensors.index.json"
ROADS = [by_attribute, by_run, by_finetune, by_worker, by_tokenizer]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"num_labels": 5000}, "num_labels is 5000(.|\n)*a number from 1 to 4096"),
        ("config.json", {"transformers_weights": "a/b.safetensors"}, "transformers_weights is 'a/b"),
        ("config.json", {"text": {"attn_implementation": "org/kernel"}}, "is 'org/kernel'(.|\n)*eager, sdpa"),
        ("adapter_config.json", {"base_model_name_or_path": "/x"}, "an adapter(.|\n)*merge_and_unload"),
        (INDEX, {"weight_map": {"a": "../a.safetensors"}}, "files that are elsewhere"),
        (INDEX, {"weight_map": ["a"]}, "index of weights is broken"),
    ],
)
def test_every_road_to_a_model_has_the_same_limits(
    road: Callable[[Path, Path], None],
    changed: Path,
    data: Path,
    name: str,
    change: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers, which would make as many names as there are labels, is not asked."""
    path = changed / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **change}))
    for kind in (AutoConfig, AutoTokenizer, AutoModelForSequenceClassification):
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: pytest.fail("transformers was asked"))
    with pytest.raises(UserError, match=message):
        road(changed, data)


def test_a_run_is_not_taken_up_again_with_an_adapter(filled: Path) -> None:
    """The hash is of configuration and weights, so the folder would count as the run's model."""
    request = Request((), pa.table({}), {}, "")
    with Store(filled).read() as connection:
        run = resolve_run(connection, "first")
        adapter = Path(run.model) / "adapter_config.json"
        adapter.write_text("{}")
        try:
            with pytest.raises(ModelGoneError, match="the model folder holds an adapter"):
                plan_request(connection, run, MachineSettings(), "masked_answers", "job", request)
        finally:
            adapter.unlink()


# Data


def test_a_script_among_the_data_is_not_run(cli: Cli, model: Path, tmp_path: Path) -> None:
    trace, folder = tmp_path / "it-ran", tmp_path / "reviews"
    folder.mkdir()
    script = f"open({str(trace)!r}, 'w')\nimport datasets\nclass R(datasets.GeneratorBasedBuilder): pass\n"
    for name in ("reviews.py", "__init__.py", "dataset.py"):
        (folder / name).write_text(script)
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"{{model: {model}, dataset: {folder}, columns: {{text_a: a}}, labels: [n, p]}}")
    contains(cli.refuses("run", spec), "error: ")
    contains(cli.refuses("run", spec, "--dataset", folder / "reviews.py"), "the format of the data file")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("x.json", b"[" * 100_000, 2),
        ("x.json", b'{"text": "\\ud800", "label": 0}', 2),
        ("x.jsonl", b'{"text": {"a": 1}, "label": 0}\n', 2),
        ("x.json", b"\xff\xfe\x00", 2),
        ("x.json", b'{"text": "a", "label": 1e999}', 2),
        ("x.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", 2),
        ("x.parquet", b"PAR1", 2),
        (
            "x.csv",
            b"text,label\n" + b'"' + b"a" * 200_000 + b'",0\n',
            0,
        ),  # one word
        ("x.csv", b"text,text\na,b\n", 2),
        ("x.csv", b'"text,label\n', 2),
        ("x.tsv", b"text\tlabel\na\t" + b"9" * 5000 + b"\n", 2),
        ("x.tsv", b"text\tlabel\n\x00\t0\n", 1),  # nothing but a null character is quarantined as empty
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else str(value),
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_odd_data_files(
    cli: Cli,
    model: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # `datasets` logs to a stream pytest has closed
    (tmp_path / name).write_bytes(content)
    spec = tmp_path / "spec.yaml"
    columns = "columns: {text_a: text, label: label}, labels: [negative, positive]"
    spec.write_text(f"{{model: {model}, dataset: {tmp_path / name}, {columns}}}")
    answer = cli("run", spec, "--executor", "local")
    assert answer.code == code, answer.err
    assert ("error: " in answer.err) == (code == 2)
    assert len(answer.err) < 6000


# Names

PATHS = [
    "../x",
    "..",
    "/etc/x",
    "a/b",
    "a\\b",
    "a\x00b",
    "~/x",
    ".x",
    "-x",
    "",
    "x" * 200,
    "a b",
    "a\n",
    "ä",
    "%2e",
]


@pytest.mark.parametrize("name", PATHS)
def test_names_are_no_paths(cli: Cli, model: Path, data: Path, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    run = ["run", "--task", "sst2", "--model", model, "--data-dir", data]
    contains(cli.refuses(*run, f"--name={name}"), "name")
    state = ["--schedules", tmp_path / "schedules.sqlite"]
    (tmp_path / "spec.yaml").write_text("{task: sst2, model: bundled, data_dir: bundled}")
    spec = tmp_path / "spec.yaml"
    answer = cli.bare("schedule", "add", f"{name}", "--cron", "0 0 * * *", "--spec", spec, *state)
    assert answer.code == 2, answer
    spec.unlink()
    created = set(tmp_path.rglob("*")) - set(before)
    assert {path.name.split(".")[0] for path in created} <= {"store", "schedules"}


@pytest.fixture(scope="module")
def filled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run."""
    folder = tmp_path_factory.mktemp("filled")
    fill(folder / "store.duckdb", model, write_sst2(folder / "glue", dev=toy_rows(N, seed=1)), N)
    return folder / "store.duckdb"


@pytest.mark.parametrize("name", [name for name in PATHS if not name.startswith("-")])
def test_names_that_nothing_has(cli: Cli, filled: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(filled, cli.db)
    before = sorted(tmp_path.rglob("*"))
    contains(cli.refuses("export", name, "--to", tmp_path / "export"), "no such run")
    contains(cli.refuses("rm", name, "--yes"), "no such run")
    contains(cli.refuses("jobs", "run", name), "unknown job")
    contains(cli.bare("jobs", "show", name).err, "unknown job")
    assert sorted(tmp_path.rglob("*")) == before


# Texts


class Tags(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, frozenset[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, frozenset(name for name, _ in attrs)))


def page(store: Store, path: Path) -> tuple[str, Tags]:
    text = write_report(store, path).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    return text, tags


def test_markup_in_texts_is_text_in_the_report(built_store: Store, tmp_path: Path) -> None:
    _, clean = page(built_store, tmp_path / "clean.html")
    text, tags = page(poisoned(built_store), tmp_path / "poisoned.html")
    assert "&lt;img src=x" in text  # it is there, and escaped
    assert set(tags.found) == set(clean.found)
    scripts = [sum(tag == "script" for tag, _ in one.found) for one in (tags, clean)]
    assert scripts[0] == scripts[1]
    assert "onerror" not in {name for _, names in tags.found for name in names}


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"]


def test_formulas_are_texts_in_csv(cli: Cli, built_store: Store) -> None:
    quoted = ", ".join("'" + text.replace("'", "''") + "'" for text in FORMULAS)
    query = f"SELECT unnest([{quoted}]) AS text, -1 AS n, -0.5 AS x, ['=1'] AS l, 'a=1' AS \"=plain\""
    answer = cli.bare("sql", query, "--format", "csv", "--db", built_store.path)
    header, *found = list(csv.reader(io.StringIO(answer.out, newline="")))
    assert header == ["text", "n", "x", "l", "'=plain"]
    assert [row[0] for row in found] == [f"'{text}" for text in FORMULAS]
    assert {tuple(row[1:]) for row in found} == {("-1", "-0.5", "['=1']", "a=1")}
    exact = cli.bare("sql", query, "--format", "json", "--db", built_store.path)
    assert [row["text"] for row in json.loads(exact.out)] == FORMULAS


def test_markup_on_a_terminal_is_text(cli: Cli, built_store: Store, tmp_path: Path) -> None:
    shown = ["[bold]x[/bold]", r"\[bold]gone", "[/x]"]
    quoted = ", ".join(f"'{text}' AS \"{text}\"" for text in shown)
    answer = cli.bare("sql", f"SELECT {quoted}", "--db", built_store.path)
    assert answer.code == 0, answer.err
    header, cells = (line.split() for line in answer.out.splitlines() if "bold" in line)
    assert header == cells == shown
    copy = tmp_path / "[bold]copy[x].duckdb"
    assert f"wrote {copy} " in cli.bare("snapshot", copy, "--db", built_store.path).err
    assert rows_of(built_store.path, "SELECT count(*) FROM runs") == [(2,)]
