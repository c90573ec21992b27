"""Models, data, names and texts from somebody who means harm: refused, or shown as what they are."""

from __future__ import annotations

import csv
import io
import json
import logging
import pickle
import shutil
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from calling import Cli, contains, fill
from poison import poisoned
from toy import rows_of, toy_model, toy_rows, write_sst2

from attattr_batch.report.html import write_report
from attattr_batch.report.saving import csv_file
from attattr_batch.store.connection import Store

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
    assert answer.code in (0, 1), answer.err
    (changed / "model.safetensors").unlink()
    contains(run(cli, changed, data), "pickled weights only", "unpickling runs code")
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
        {"architectures": 7},
        {"model_type": ["bert"]},
        {"model_type": "../../bert"},
        {"torch_dtype": "__builtins__"},
        {"pad_token_id": 10**12},
        {"quantization_config": {"quant_method": "nope"}},
        {"attn_implementation": "https://example.com/kernel"},
        {"_attn_implementation": "org/kernel"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_odd_configurations(cli: Cli, changed: Path, data: Path, change: dict[str, Any]) -> None:
    """Refused in words and soon, or without effect."""
    path = changed / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    answer = cli("run", "--task", "sst2", "--model", changed, "--data-dir", data, "--executor", "local")
    assert answer.code in (0, 2), answer.err
    if answer.code == 2:
        contains(answer.err, "error: ")
        assert len(answer.err) < 5000


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
        ("tokenizer_config.json", b'{"tokenizer_class": "os.system"}'),
        ("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}'),
        ("model.safetensors", b""),
        ("model.safetensors", struct.pack("<Q", 2**60)),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../../../../etc/passwd"}}'),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:24]),
)
def test_odd_files_in_a_model_folder(
    cli: Cli, changed: Path, data: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    trace = tmp_path / "it-ran"
    (changed / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass T: pass\n")
    (changed / name).write_bytes(content)
    answer = cli("run", "--task", "sst2", "--model", changed, "--data-dir", data, "--executor", "local")
    assert answer.code in (0, 2), answer.err
    assert len(answer.err) < 5000
    assert not trace.exists()


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
    ("name", "content"),
    [
        ("x.json", b"[" * 100_000),
        ("x.json", b'{"text": "\\ud800", "label": 0}'),
        ("x.jsonl", b'{"text": {"a": 1}, "label": 0}\n'),
        ("x.json", b"\xff\xfe\x00"),
        ("x.json", b'{"text": "a", "label": 1e999}'),
        ("x.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1"),
        ("x.parquet", b"PAR1"),
        ("x.csv", b"text,label\n" + b'"' + b"a" * 200_000 + b'",0\n'),
        ("x.csv", b"text,text\na,b\n"),
        ("x.csv", b'"text,label\n'),
        ("x.tsv", b"text\tlabel\na\t" + b"9" * 5000 + b"\n"),
        ("x.tsv", b"text\tlabel\n\x00\t0\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:24]),
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_odd_data_files(
    cli: Cli, model: Path, tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # `datasets` logs to a stream pytest has closed
    (tmp_path / name).write_bytes(content)
    spec = tmp_path / "spec.yaml"
    columns = "columns: {text_a: text, label: label}, labels: [negative, positive]"
    spec.write_text(f"{{model: {model}, dataset: {tmp_path / name}, {columns}}}")
    answer = cli("run", spec, "--executor", "local")
    # 1: a text of nothing but a null character is quarantined as empty.
    assert answer.code in (0, 1, 2) and "Traceback" not in answer.err, answer.err
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


def test_formulas_are_texts_in_the_dashboards_csv() -> None:
    texts = pa.array([*FORMULAS, None, "a"])
    kinds = {"text": texts, "enum": texts.dictionary_encode(), "blob": texts.cast(pa.binary())}
    table = pa.table({**kinds, "n": [-1] * 9, "=x": [-0.5] * 9})
    header, *found = list(csv.reader(io.StringIO(csv_file(table).decode(), newline="")))
    assert header == [*kinds, "n", "'=x"]
    assert [row[:3] for row in found] == [
        3 * [text] for text in (*(f"'{text}" for text in FORMULAS), "", "a")
    ]
    assert {tuple(row[3:]) for row in found} == {("-1", "-0.5")}


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
