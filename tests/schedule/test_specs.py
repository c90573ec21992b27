"""Specs by date, and watched checkpoint folders."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from helpers.scheduling import Bench
from safetensors.numpy import save_file

from attattr_batch.errors import UserError
from attattr_batch.schedule.specs import resolve, resolved_specs, same_work

TICK = datetime(2026, 3, 1, 1, 30, tzinfo=ZoneInfo("Asia/Tokyo"))


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def checkpoint(folder: Path, seconds: int, *, complete: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    if complete:
        weights(folder / "model.safetensors", seconds)
    # Of these the tests change one at a time, not the time of all when one is written again.
    for name in ("config.json", "tokenizer.json"):
        os.utime(folder / name, (50, 50))
    return folder


def weights(path: Path, seconds: int, *, cut: int = 0) -> None:
    """Writes a tensor, without the last `cut` bytes."""
    save_file({"weight": np.ones(4, np.float32)}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    os.utime(path, (seconds, seconds))


def test_dates_are_those_of_the_schedule_s_zone(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: bundled, data_dir: './export/{tick:%Y-%m-%d}/{tick:%H}'}")
    (spec,) = resolved_specs(resolve(path, TICK, "nightly-now"))
    assert spec.data.data_dir == str(tmp_path / "export/2026-03-01/01")
    assert spec.name == "nightly-now"


def test_several_runs_get_their_own_names(tmp_path: Path) -> None:
    path = write(tmp_path, "{defaults: {model: bundled}, runs: [{task: sst2, name: films}, {task: rte}]}")
    assert [spec.name for spec in resolved_specs(resolve(path, TICK, "n"))] == ["n-films", "n-1"]


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*/best', data_dir: bundled}")
    with pytest.raises(UserError, match="no checkpoint in the watched folder"):
        resolve(path, TICK, "n")
    checkpoint(tmp_path / "runs/a/best", 200)
    checkpoint(tmp_path / "runs/b/best", 100)
    checkpoint(tmp_path / "runs/c/best", 300, complete=False)
    checkpoint(tmp_path / "runs/d/last", 400)
    (spec,) = resolved_specs(resolve(path, TICK, "n"))
    assert spec.model == str(tmp_path / "runs/a/best")


def unfinished(folder: Path, what: str) -> Path:
    """A newer checkpoint as it looks while it is being written, or copied."""
    checkpoint(folder, 300)
    index = folder / "model.safetensors.index.json"
    if what == "empty weights":
        weights(folder / "model.safetensors", 300, cut=10_000)
    elif what == "half the weights":
        weights(folder / "model.safetensors", 300, cut=8)
    elif what == "half the configuration":
        (folder / "config.json").write_text('{"id2label": {')
    elif what == "no tokenizer yet":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        if what == "a shard is missing":
            names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
            index.write_text(json.dumps({"weight_map": dict(zip("ab", names, strict=True))}))
        elif what == "half the index":
            index.write_text('{"weight_map": {')
    return folder


UNFINISHED = {
    "empty weights": "model.safetensors: ",
    "half the weights": "model.safetensors: ",
    "half the configuration": "config.json is cut off",
    "no tokenizer yet": "no tokenizer",
    "no index yet": "shards without model.safetensors.index.json",
    "a shard is missing": "no model-00002-of-00002.safetensors",
    "half the index": "model.safetensors.index.json is cut off",
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_a_checkpoint_that_is_being_written_is_passed_over(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*', data_dir: bundled}")
    newer = unfinished(tmp_path / "runs/b", what)
    with pytest.raises(
        UserError, match=f"(?s)no checkpoint in the watched.*b: {re.escape(UNFINISHED[what])}"
    ):
        resolve(path, TICK, "n")
    checkpoint(tmp_path / "runs/a", 200)
    (spec,) = resolved_specs(resolve(path, TICK, "n"))
    assert spec.model == str(tmp_path / "runs/a")
    assert f"checkpoint {newer} is not complete" in caplog.text


def test_a_checkpoint_in_shards_is_complete_with_the_last_one(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*', data_dir: bundled}")
    folder = unfinished(tmp_path / "runs/b", "a shard is missing")
    weights(folder / "model-00002-of-00002.safetensors", 301)
    (spec,) = resolved_specs(resolve(path, TICK, "n"))
    assert spec.model == str(folder)


@pytest.mark.parametrize(
    ("data", "file"),
    [
        ("data_dir: glue", "glue/SST-2/dev.tsv"),
        ("dataset: rows.csv, columns: {text_a: sentence}", "rows.csv"),
        ("dataset: ./rows, columns: {text_a: sentence}", "rows/deep/dev.csv"),
        ("data_dir: bundled", "runs/a/config.json"),
        ("data_dir: bundled", "runs/a/tokenizer.json"),
        ("data_dir: bundled", "runs/a/vocab.txt"),
    ],
)
def test_a_tick_whose_data_or_model_files_changed_is_run(tmp_path: Path, data: str, file: str) -> None:
    bench = Bench(tmp_path)
    checkpoint(tmp_path / "runs/a", 100)
    changing = tmp_path / file
    changing.parent.mkdir(parents=True, exist_ok=True)
    changing.write_text("{}")
    bench.add(spec=f"{{task: sst2, model: 'runs/*', {data}}}")
    for day in range(4):
        if day == 2:
            changing.write_text('{"more": 1}')
        bench.clock.forward(days=1)
        bench.run_due()
    assert [status for _, status in bench.statuses()] == ["done", "unchanged", "done", "unchanged"]


def test_same_work_sees_new_and_rewritten_checkpoints(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*', data_dir: bundled}")
    folder = checkpoint(tmp_path / "runs/a", 100)
    first = resolve(path, TICK, "one")
    assert same_work(resolve(path, TICK, "two"), json.loads(json.dumps(first)))
    checkpoint(folder, 101)
    assert not same_work(resolve(path, TICK, "two"), first), "the weights were written again"
    second = resolve(path, TICK, "two")
    checkpoint(tmp_path / "runs/b", 102)
    assert not same_work(resolve(path, TICK, "three"), second)


def test_without_a_watched_model_every_tick_is_run(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: bundled}")
    first = resolve(path, TICK, "one")
    assert not same_work(resolve(path, TICK, "two"), first)


def test_an_unchanged_checkpoint_is_skipped_and_a_new_one_attributed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    checkpoint(tmp_path / "runs/a", 100)
    bench.add(spec="{task: sst2, model: 'runs/*', data_dir: bundled}")
    for day in range(4):
        if day == 2:
            checkpoint(tmp_path / "runs/b", 200)
        bench.clock.forward(days=1)
        bench.run_due()
    assert [status for _, status in bench.statuses()] == ["done", "unchanged", "done", "unchanged"]
    assert [Path(spec.model).name for spec in bench.runs.specs] == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Nightly"}, "name: "),
        ({"name": "a" * 61}, "name: "),
        ({"cron": "0 2 * *"}, "five fields"),
        ({"tz": "Mars"}, "unknown time zone"),
        ({"spec": "{task: sst2, model: bundled, modle: 1}"}, "unknown key 'modle'"),
        ({"min_rank_correlation": 2}, "min_rank_correlation: "),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_stored(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(UserError, match=message):
        bench.add(**{"name": "nightly"} | values)  # type: ignore[arg-type]
    assert not bench.state.path.exists()
