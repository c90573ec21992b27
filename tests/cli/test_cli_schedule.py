"""`attattr schedule`: a nightly checkpoint, from `add` to drift, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.calling import Cli, contains
from helpers.scheduling import Clock
from helpers.toy import rows_of, toy_model, toy_rows, write_sst2

import attattr_batch.cli.schedule
from attattr_batch.analysis.diff import diff_runs
from attattr_batch.store.database.connection import Store

SPEC = "{task: sst2, model: 'checkpoints/*', data_dir: glue, limit: 6}"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in a folder with a spec, data, and one checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_sst2(tmp_path / "glue", dev=toy_rows(6, seed=1))
    toy_model(tmp_path / "checkpoints" / "first")
    (tmp_path / "night.yaml").write_text(SPEC)
    return Cli(capsys, tmp_path / "store.duckdb")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which schedules go."""
    clock = Clock()
    monkeypatch.setattr(attattr_batch.cli.schedule, "_now", clock)
    return clock


def add(cli: Cli, *more: object) -> None:
    answer = cli("schedule", "add", "nightly", "--cron", "0 2 * * *", "--spec", "night.yaml", *more)
    assert answer.code == 0, answer.err


def run_due(cli: Cli, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    """Calls it, by default expecting that all is good; returns its ticks and what it said."""
    answer = cli.bare("schedule", "run-due", "--format", "json")
    assert answer.code == code, answer.err
    return json.loads(answer.out), answer.err


def test_add_list_and_remove(cli: Cli) -> None:
    answer = cli(
        *("schedule", "add", "nightly", "--cron", "30 2 * * *", "--spec", "night.yaml"),
        *("--tz", "Europe/Berlin"),
    )
    assert answer.code == 0
    assert "schedule nightly: first tick" in answer.err and "02:30 CE" in answer.err
    (row,) = json.loads(cli.bare("schedule", "list", "--format", "json").out)
    assert row["cron"] == "30 2 * * *" and "02:30" in row["next"] and row["last"] is None
    assert cli.bare("schedule", "rm", "nightl").code == 2
    assert cli.bare("schedule", "rm", "nightly").code == 0
    assert json.loads(cli.bare("schedule", "list", "--format", "json").out) == []


@pytest.mark.parametrize(
    "command",
    [["list"], ["rm", "nightly"], ["run-due"], ["manifest", "nightly", "--kind", "crontab"]],
    ids=lambda command: command[0],
)
def test_a_schedules_file_that_is_not_there_is_refused(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    add(cli)
    answer = cli.bare("schedule", *command, "--schedules", "mistyped.sqlite")
    assert (answer.code, answer.out) == (2, "")
    assert contains(answer.err, "there is no schedules file", "mistyped.sqlite", "attattr schedule add")
    assert not (tmp_path / "mistyped.sqlite").exists()


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (["--cron", "99 * * * *"], ["not valid", "bad minute"]),
        (["--tz", "Europe/Berln"], ["unknown time zone", "did you mean 'Europe/Berlin'"]),
        (["--spec", "day.yaml"], ["cannot read the run spec"]),
        (["--job", "head_importanc"], ["head_importanc", "did you mean 'head_importance'"]),
    ],
)
def test_refusals(cli: Cli, flags: list[str], fragments: list[str]) -> None:
    settings = {"--cron": "0 2 * * *", "--spec": "night.yaml"} | dict([flags])
    message = cli.refuses("schedule", "add", "nightly", *[one for pair in settings.items() for one in pair])
    assert contains(message, *fragments)


def test_a_tick_attributes_and_the_next_one_skips_the_same_checkpoint(
    cli: Cli, clock: Clock, tmp_path: Path
) -> None:
    add(cli, "--report", "report.html")
    clock.forward(hours=3)
    ((tick,), _) = run_due(cli)
    assert tick["status"] == "done" and tick["outcome"]["findings"] == []
    ((name, committed),) = rows_of(cli.db, "SELECT name, committed FROM run_summary")
    assert (name, committed) == ("nightly-20260101T020000Z", 6)
    assert "Self-attention attribution" in (tmp_path / "report.html").read_text()
    assert run_due(cli) == ([], "")
    clock.forward(days=1)
    ((tick,), _) = run_due(cli)
    assert tick["status"] == "unchanged"
    assert rows_of(cli.db, "SELECT count(*) FROM runs") == [(1,)]


def test_jobs_are_built_for_the_runs_of_the_tick(cli: Cli, clock: Clock) -> None:
    add(cli, "--job", "head_importance")
    clock.forward(hours=3)
    ((tick,), _) = run_due(cli)
    assert tick["outcome"]["findings"] == []
    assert rows_of(cli.db, "SELECT count(*) > 0 FROM head_importance") == [(True,)]


def test_another_model_is_drift_and_is_told(cli: Cli, clock: Clock, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    add(cli, "--notify-command", "cat > told.json", "--min-rank-correlation", 0.99)
    clock.forward(hours=3)
    run_due(cli)
    assert not told.exists()
    toy_model(tmp_path / "checkpoints" / "second", seed=5)
    clock.forward(days=1)
    ((tick,), err) = run_due(cli, code=1)
    (finding,) = [one for one in tick["outcome"]["findings"] if "rank correlation" in one]
    assert "below 0.99" in finding
    assert finding in err
    document = json.loads(told.read_text())
    assert (document["schedule"], document["status"]) == ("nightly", "done")
    assert finding in document["findings"]


def test_a_failed_tick_is_told_with_exit_code_1(cli: Cli, clock: Clock, tmp_path: Path) -> None:
    add(cli, "--tz", "Asia/Tokyo")
    clock.forward(hours=18)
    (tmp_path / "night.yaml").write_text("{task: sst2, model: bundled, data_dir: nowhere}")
    ((tick,), err) = run_due(cli, code=1)
    assert tick["status"] == "failed"
    assert "nowhere" in err
    (row,) = json.loads(cli.bare("schedule", "list", "--format", "json").out)
    assert (row["last"], row["next"]) == ("2026-01-02T02:00:00+09:00", "2026-01-03T02:00:00+09:00")
    listed = cli.bare("schedule", "list").out
    assert contains(" ".join(listed.split()), "2026-01-02 02:00 JST", "2026-01-03 02:00 JST")


def test_rank_correlation_is_spearman_s(cli: Cli, tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    for name, seed in (("a", 1), ("b", 2)):
        model = toy_model(tmp_path / name, seed=seed)
        run = ("run", "--task", "sst2", "--model", model, "--data-dir", "glue", "--name", name, "--quiet")
        assert cli(*run).code == 0
    rows = diff_runs(Store(cli.db), 1, 2, top=0).to_pylist()
    changes = {(row["part"], row["name"]): row["value"] for row in rows}
    query = "SELECT attr_max FROM head_summary WHERE target = 'gold' AND run_id = {} ORDER BY layer, head"
    ours, theirs = ([value for (value,) in rows_of(cli.db, query.format(run))] for run in (1, 2))
    assert changes["correlation", "attattr spearman"] == pytest.approx(spearmanr(ours, theirs).statistic)
    ((before,), (now,)) = rows_of(cli.db, "SELECT accuracy FROM run_summary ORDER BY run_id")
    assert changes["accuracy", "same rows"] == pytest.approx(now - before)


def test_manifests_go_to_stdout_or_a_folder(cli: Cli, tmp_path: Path) -> None:
    add(cli)
    refused = cli.bare("schedule", "manifest", "nightly", "--kind", "rayjob")
    assert refused.code == 2 and "must say how many workers" in refused.err
    (tmp_path / "night.yaml").write_text(SPEC.replace("limit", "workers: [{gpus: 1}], limit"))
    answer = cli.bare("schedule", "manifest", "nightly", "--kind", "rayjob", "--image", "here/attattr:2")
    assert answer.code == 0 and 'image: "here/attattr:2"' in answer.out
    units = tmp_path / "new" / "units"
    assert cli.bare("schedule", "manifest", "nightly", "--kind", "systemd", "--to", units).code == 0
    assert sorted(path.name for path in units.iterdir()) == [
        "attattr-nightly.service",
        "attattr-nightly.timer",
    ]
    refused = cli.bare("schedule", "manifest", "nightly", "--kind", "launchd")
    assert refused.code == 2 and "allowed: cronjob, crontab" in refused.err
