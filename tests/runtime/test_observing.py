"""What an operator sees: log lines with facts, the metrics file, worker errors shown once."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fabricate import new_store, register
from helpers.toy_work import ToyWork, chunks
from rich.console import Console

from attattr_batch.cli.logs import set_up_logging
from attattr_batch.errors import UserError
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor
from attattr_batch.runtime.metrics import MetricsFile
from attattr_batch.runtime.progress import reporting

SAMPLE = re.compile(r'^attattr_\w+\{run="(?:[^"\\\n]|\\["\\n])*"\} \S+$')


@pytest.fixture(autouse=True)
def _log_is_put_back() -> Iterator[None]:
    yield
    set_up_logging()


def samples(path: Path) -> dict[str, str]:
    """Values by metric and labels; the lines must be Prometheus text."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in lines), lines
    return dict(line.rsplit(" ", 1) for line in lines)


def test_the_metrics_file_follows_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attattr_batch.runtime.metrics._EVERY_S", 3600.0)
    path = tmp_path / "new" / "attattr.prom"
    metrics = MetricsFile(path)
    assert samples(path) == {}
    told: list[int] = []
    report = metrics.reporter(lambda progress: told.append(progress.committed))
    report(Progress(10, 4, 1, newly_committed=3, title="sst2"))
    assert told == [4]
    assert samples(path) == {}, "written now and then"
    report(Progress(10, 9, 1, newly_committed=8, title="sst2"))
    report(Progress(2, 2, 0, newly_committed=2, title='r"te\\'))
    found = samples(path)
    assert found['attattr_examples{run="sst2"}'] == "10"
    assert found['attattr_examples_committed{run="sst2"}'] == "9"
    assert found['attattr_examples_quarantined{run="sst2"}'] == "1"
    assert float(found['attattr_examples_per_second{run="sst2"}']) > 0
    assert found['attattr_examples{run="r\\"te\\\\"}'] == "2"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_metrics_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the metrics file cannot be written"):
        MetricsFile(tmp_path / "file" / "attattr.prom")


def test_a_metrics_file_that_cannot_be_written_any_more_is_said_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging()
    path = tmp_path / "mount" / "attattr.prom"
    metrics = MetricsFile(path)
    path.unlink()
    path.parent.rmdir()
    told: list[int] = []
    report = metrics.reporter(lambda progress: told.append(progress.committed))
    for done in (1, 2):
        report(Progress(done, done, 0, title=str(done)))
    assert told == [1, 2]
    assert capsys.readouterr().err.count("the metrics file cannot be written") == 1
    path.parent.mkdir()
    report(Progress(3, 3, 0, title="3"))
    assert samples(path)['attattr_examples{run="2"}'] == "2"


def test_bars_follow_passes_one_after_the_other() -> None:
    screen = io.StringIO()
    with reporting(Console(file=screen, force_terminal=True, width=120)) as report:
        for title in ("first", "second"):
            report(Progress(4, 0, 0, title=title))
            report(Progress(4, 3, 1, newly_committed=3, title=title))
    for title in ("first", "second"):
        assert re.search(rf"{title} .*4/4.*1 quarantined", screen.getvalue())


def test_json_lines_hold_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(form="json", file=tmp_path / "logs" / "run.jsonl")
    with reporting(None) as report:
        report(Progress(4, 3, 1, newly_committed=3, title="sst2"))
    logging.getLogger("attattr_batch.x").debug("a detail")
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["level"], line["run"], line["examples"], line["committed"]) == ("info", "sst2", 4, 3)
    assert line["quarantined"] == 1 and line["examples_per_second"] > 0
    kept = [json.loads(line) for line in (tmp_path / "logs" / "run.jsonl").read_text().splitlines()]
    assert [one["message"] for one in kept] == [line["message"], "a detail"]


def test_a_worker_s_error_is_shown_once_with_examples_and_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.jsonl"
    set_up_logging(form="json", file=log)
    store = new_store(tmp_path)
    register(store, 16)
    work = ToyWork(raising=frozenset({5, 11}))
    Driver(store, 1, LocalExecutor(work), lambda progress: None).execute(chunks(16, 8), Progress(16, 0, 0))
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["level"], line["error"], line["worker"]) == ("warning", "ArithmeticError", "local")
    assert line["example_ids"] == list(range(8))
    assert "cannot compute [5]" in line["message"]
    kept = [json.loads(one) for one in log.read_text().splitlines()]
    assert len([one for one in kept if one.get("example_ids") == [11]]) == 2, "both attempts, in detail"
    assert any("Traceback" in one["message"] for one in kept)
