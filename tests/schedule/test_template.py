"""Specs by date, and watched checkpoint folders."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from scheduling import Bench

from attattr_batch.errors import UserError
from attattr_batch.schedule.template import Resolved, resolve

TICK = datetime(2026, 3, 1, 1, 30, tzinfo=ZoneInfo("Asia/Tokyo"))


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def checkpoint(folder: Path, seconds: int, *, complete: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    if complete:
        weights = folder / "model.safetensors"
        weights.write_bytes(b"weights")
        os.utime(weights, (seconds, seconds))
    return folder


def test_dates_are_those_of_the_schedule_s_zone(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: bundled, data_dir: './export/{tick:%Y-%m-%d}/{tick:%H}'}")
    (spec,) = resolve(path, TICK, "nightly-now").specs
    assert spec.data_dir == str(tmp_path / "export/2026-03-01/01")
    assert spec.name == "nightly-now"


def test_several_runs_get_their_own_names(tmp_path: Path) -> None:
    path = write(tmp_path, "{defaults: {model: bundled}, runs: [{task: sst2, name: films}, {task: rte}]}")
    assert [spec.name for spec in resolve(path, TICK, "n").specs] == ["n-films", "n-1"]


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*/best', data_dir: bundled}")
    with pytest.raises(UserError, match="no checkpoint in the watched folder"):
        resolve(path, TICK, "n")
    checkpoint(tmp_path / "runs/a/best", 200)
    checkpoint(tmp_path / "runs/b/best", 100)
    checkpoint(tmp_path / "runs/c/best", 300, complete=False)
    checkpoint(tmp_path / "runs/d/last", 400)
    (spec,) = resolve(path, TICK, "n").specs
    assert spec.model == str(tmp_path / "runs/a/best")


def test_same_work_sees_new_and_rewritten_checkpoints(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: 'runs/*', data_dir: bundled}")
    folder = checkpoint(tmp_path / "runs/a", 100)
    first = resolve(path, TICK, "one")
    assert resolve(path, TICK, "two").same_work(first)
    assert Resolved.from_document(first.document()) == first
    checkpoint(folder, 101)
    assert not resolve(path, TICK, "two").same_work(first), "the weights were written again"
    second = resolve(path, TICK, "two")
    checkpoint(tmp_path / "runs/b", 102)
    assert not resolve(path, TICK, "three").same_work(second)


def test_without_a_watched_model_every_tick_is_run(tmp_path: Path) -> None:
    path = write(tmp_path, "{task: sst2, model: bundled}")
    first = resolve(path, TICK, "one")
    assert not resolve(path, TICK, "two").same_work(first)


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
    assert [Path(spec.model).name for spec in bench.work.specs] == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Nightly"}, "name: "),
        ({"name": "a" * 61}, "name: "),
        ({"cron": "0 2 * *"}, "five fields"),
        ({"tz": "Mars"}, "unknown time zone"),
        ({"spec": "{task: sst2, model: bundled, modle: 1}"}, "unknown key 'modle'"),
        ({"notify_url": "file:///etc/passwd"}, "no web address(.|\n)*scheme 'file'"),
        ({"notify_url": "http:///path"}, "no host"),
        ({"notify_url": "http://[::1/"}, "no web address"),
        ({"notify_url": "http://a..b/"}, "no web address"),
        ({"notify_url": "http://host:99999/"}, "no web address(.|\n)*Port out of range"),
        ({"notify_url": "http://host:port/"}, "no web address"),
        ({"notify_url": "http://me:secret@host/"}, "user names are not sent"),
        ({"notify_url": "http://host/my hook"}, "(?s)spaces.*%20"),
        ({"notify_url": "http://host/h\u00f6k"}, "others than ASCII"),
        ({"jitter_s": -1}, "jitter_s"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_stored(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(UserError, match=message):
        bench.add(**{"name": "nightly"} | values)  # type: ignore[arg-type]
    assert not bench.state.path.exists()


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add()
    with pytest.raises(UserError, match="there is a schedule of this name"):
        bench.add()


def test_a_foreign_file_is_refused_untouched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.state.path.write_bytes(b"no database at all, but long enough to be read as a header" * 4)
    before = bench.state.path.read_bytes()
    with pytest.raises(UserError, match="the schedules file cannot be used"):
        bench.add()
    assert bench.state.path.read_bytes() == before
