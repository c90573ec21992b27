"""The path most users take: `--model org/name --task sst2` with nothing local, against a stand-in hub."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.shells import Answer, shell
from helpers.standin import Files, HubStandIn
from helpers.toy import N_HEADS, N_LAYERS, attattr, rows_of, toy_model, toy_rows

MODEL, GLUE, OWN = "org/tiny", "nyu-mll/glue", "someone/reviews"
N_DEV = 12
RUN = ["run", "--task", "sst2", "--model", MODEL, "--format", "json"]

GLUE_CARD = """---
configs:
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train-*}
  - {split: validation, path: sst2/validation-*}
- config_name: cola
  data_files:
  - {split: validation, path: cola/validation-*}
dataset_info:
- config_name: sst2
  features:
  - {name: sentence, dtype: string}
  - {name: label, dtype: {class_label: {names: {'0': negative, '1': positive}}}}
  - {name: idx, dtype: int32}
---
"""


def parquet(rows: list[tuple[str, int]], text: str = "sentence", label: str = "label") -> bytes:
    texts, labels = zip(*rows, strict=True)
    ids = pa.array(range(len(rows)), pa.int32())
    table = pa.table({text: list(texts), label: pa.array(labels, pa.int64()), "idx": ids})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def glue(rows: list[tuple[str, int]]) -> Files:
    return {
        "README.md": GLUE_CARD.encode(),
        "sst2/train-00000-of-00001.parquet": parquet(toy_rows(5, seed=1)),
        "sst2/validation-00000-of-00001.parquet": parquet(rows),
        "cola/validation-00000-of-00001.parquet": parquet(rows),
    }


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A tiny model as repositories are: beside the weights a pickle, and another copy in a sub-folder."""
    folder = toy_model(tmp_path_factory.mktemp("tiny") / "model")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    extra = {"README.md": b"# tiny", "pytorch_model.bin": b"\x80\x04.", "training_args.bin": b"\x80\x04."}
    return {**files, **extra, "onnx/config.json": b"{}", "checkpoint-1/model.safetensors": b"0"}


@pytest.fixture
def hub(model_files: Files) -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        hub.push("models", MODEL, model_files)
        hub.push("datasets", GLUE, glue(toy_rows(N_DEV, seed=2)))
        yield hub
        assert hub.strays == [], "a request to another host"
        assert [path for path in hub.requests if "agent" in path or "telemetry" in path] == []
        pickles = [path for path in hub.requests if path.endswith((".bin", ".pt", ".pth", ".pkl", ".h5"))]
        assert pickles == []


def identity(db: Path, run_id: int = 1) -> dict[str, object]:
    ((document,),) = rows_of(db, f"SELECT identity FROM runs WHERE run_id = {run_id}")
    found = json.loads(document)
    assert isinstance(found, dict)
    return found


def refused(answer: Answer, *fragments: str) -> None:
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    for fragment in fragments:
        assert fragment in answer.err


def test_the_stand_in_would_see_a_stray() -> None:
    with HubStandIn() as hub:
        proxy = urllib.request.ProxyHandler({"http": hub.url})
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.build_opener(proxy).open("http://elsewhere.invalid/telemetry")
        assert hub.strays == ["GET http://elsewhere.invalid/telemetry"]


@pytest.mark.slow
def test_with_nothing_local_then_offline_from_the_cache(hub: HubStandIn, tmp_path: Path) -> None:
    db, again, home = tmp_path / "a.duckdb", tmp_path / "b.duckdb", tmp_path / "hf"
    model, data = hub.find("models", MODEL, "main")[0], hub.find("datasets", GLUE, "main")[0]

    online = attattr(*RUN, "--db", db, "--quiet", env=hub.environment(home))
    assert (online.returncode, online.stderr) == (0, "")
    (summary,) = json.loads(online.stdout)
    assert (summary["committed"], summary["labelled"]) == (N_DEV, N_DEV)
    assert rows_of(db, "SELECT text_a, gold FROM examples ORDER BY example_id") == toy_rows(N_DEV, seed=2)
    assert rows_of(db, "SELECT count(*) FROM head_scores WHERE target = 'gold'") == [
        (N_DEV * N_LAYERS * N_HEADS,)
    ]
    assert identity(db)["model"] == {"hub": MODEL, "commit": model}
    assert identity(db)["dataset_revision"] == data
    asked = {path.rsplit("/", 1)[-1] for path in hub.requests if f"/{MODEL}/resolve/" in path}
    assert asked == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}

    assert {path.name for path in home.iterdir()} >= {"hub", "datasets"}, (
        "its caches lie here, and nowhere else"
    )

    hub.stop()
    with shell(hub.environment(home, offline=True)) as run:
        offline = run(*RUN, "--db", db)
        assert offline.code == 0, offline.err
        assert "complete, nothing to do" in offline.err
        fresh = run(*RUN, "--db", again)
        assert fresh.code == 0, fresh.err
    assert rows_of(db, "SELECT count(*) FROM runs") == [(1,)]
    assert identity(again) == identity(db)
    everything = "SELECT * EXCLUDE run_id FROM head_scores ORDER BY ALL"
    assert rows_of(again, everything) == rows_of(db, everything)


@pytest.mark.slow
def test_commits_decide_the_identity(hub: HubStandIn, model_files: Files, tmp_path: Path) -> None:
    db = tmp_path / "a.duckdb"
    first, _ = hub.find("models", MODEL, "main")

    def run_ids() -> list[tuple[int, object]]:
        query = "SELECT run_id, identity ->> '$.model.commit' FROM runs ORDER BY run_id"
        return [(run_id, commit) for run_id, commit in rows_of(db, query)]

    with shell(hub.environment(tmp_path / "hf")) as run:
        assert run(*RUN, "--db", db).code == 0
        second = hub.push("models", MODEL, {**model_files, "README.md": b"# another"})
        assert run(*RUN, "--db", db).code == 0
        assert run_ids() == [(1, first), (2, second)]
        # By hash, by tag: the same commit is the same run.
        for revision in (first, "v1", "refs/pr/7"):
            hub.push_ref("models", MODEL, revision, first)
            answer = run(*RUN, "--db", db, "--revision", revision)
            assert (answer.code, "nothing to do" in answer.err) == (0, True), answer.err
        assert len(run_ids()) == 2
        # Another commit of the data set is another run too, even where our rows are the same.
        data = hub.push("datasets", GLUE, {**glue(toy_rows(N_DEV, seed=2)), "notes.txt": b"new"})
        assert run(*RUN, "--db", db).code == 0
        assert identity(db, 3)["dataset_revision"] == data
        assert identity(db, 3)["dataset"] == identity(db, 2)["dataset"]


@pytest.mark.slow
def test_an_own_set_and_what_is_refused(hub: HubStandIn, model_files: Files, tmp_path: Path) -> None:
    db, spec = tmp_path / "a.duckdb", tmp_path / "spec.yaml"
    own = {"data/test-00000-of-00001.parquet": parquet(toy_rows(7, seed=3), "review", "stars")}
    commit = hub.push("datasets", OWN, own)
    bare = {name: content for name, content in model_files.items() if not name.endswith("safetensors")}
    hub.push("models", "org/pickled", bare)
    with shell(hub.environment(tmp_path / "hf")) as run:
        spec.write_text(
            f"{{model: {MODEL}, dataset: {OWN}, split: test, labels: [negative, positive],"
            " columns: {text_a: review, label: stars}}"
        )
        answer = run("run", spec, "--db", db)
        assert answer.code == 0, answer.err
        assert rows_of(db, "SELECT text_a, gold FROM examples ORDER BY ALL") == sorted(toy_rows(7, seed=3))
        assert identity(db)["dataset_revision"] == commit
        assert rows_of(db, "SELECT task, split FROM runs") == [("reviews", "test")]

        go = ["run", "--db", db, "--task", "sst2", "--model"]
        refused(run(*go, "org/nothing"), "no such model on the hub", "org/nothing")
        refused(run(*go, MODEL, "--revision", "v9"), "no such revision", f"{MODEL}@v9")
        refused(run(*go, "org/pickled"), "no safetensors weights", "org/pickled", "refs/pr/N")
        refused(run(*go, "a/b/c"), "not a folder and not a hub id", "a/b/c")
        refused(run(*go, MODEL, "--task", "rte"), "nyu-mll/glue (rte)", "BuilderConfig 'rte' not found")
        refused(run(*go, MODEL, "--split", "test"), "no such split", "train, validation")
        other = run("run", spec, "--db", db, "--dataset", "someone/nothing")
        refused(other, "someone/nothing", "doesn't exist")
        refused(run("run", spec, "--db", db, "--split", "dev"), "no such split", "dev", "test")
        hub.forbidden.add("model.safetensors")
        hub.push("models", "org/half", model_files)
        refused(run(*go, "org/half"), "the hub cannot be reached", "org/half", "403 Forbidden")
        hub.stop()
        down = run(*go, "org/never-seen")
        refused(down, "the hub cannot be reached", "org/never-seen", "Connection refused")
        assert rows_of(db, "SELECT count(*) FROM runs") == [(1,)]


@pytest.mark.slow
def test_offline_with_an_empty_cache(hub: HubStandIn, tmp_path: Path) -> None:
    with shell(hub.environment(tmp_path / "hf", offline=True)) as run:
        answer = run(*RUN, "--db", tmp_path / "a.duckdb")
        refused(answer, "the hub cannot be reached", MODEL, "offline, only models in the hub's cache")
        own = toy_model(tmp_path / "model")
        answer = run("run", "--task", "sst2", "--model", own, "--db", tmp_path / "a.duckdb")
        refused(answer, "cannot open the hub data set nyu-mll/glue (sst2)", "OfflineModeIsEnabled")
    assert hub.requests == []
    assert not (tmp_path / "a.duckdb").exists()
