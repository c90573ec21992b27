"""What a tick asks of the runtime: its runs, and jobs for them in the same place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from helpers.scheduling import Bench

from attattr_batch.analysis.runner import JobRequest
from attattr_batch.errors import StoreError
from attattr_batch.schedule import attributing
from attattr_batch.schedule.attributing import attribute
from attattr_batch.spec import RunSpec, make_spec
from attattr_batch.store.database.connection import Store


def spec(**settings: Any) -> RunSpec:
    return make_spec({"task": "sst2", "model": "bundled", **settings})


@pytest.mark.parametrize("address", [None, "auto"])
def test_jobs_of_a_tick_are_computed_where_its_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    asked: list[JobRequest] = []
    ran: list[RunSpec] = []

    def run(spec: RunSpec, *_: object) -> SimpleNamespace:
        ran.append(spec)
        return SimpleNamespace(run_id=6 + len(ran), quarantined=0, uncertified=0, name="x", committed=1,
                               n_examples=1, accuracy=None)  # fmt: skip

    def build(_store: object, request: JobRequest, _reporting: object) -> list[object]:
        asked.append(request)
        return []

    monkeypatch.setattr(attributing, "run_spec", run)
    monkeypatch.setattr(attributing, "run_jobs", build)
    monkeypatch.setattr(attributing, "run_audits", lambda store: ([], []))
    schedule = Bench(tmp_path).add(jobs=("all",))
    specs = [spec(workers=8, address="head:6379", stage="s3://x/y"), spec(device="cpu")]
    attribute(schedule, specs, [], lambda progress: None, address)
    (request,) = asked
    assert list(request.runs) == ["7", "8"]
    assert request.machines == {7: ran[0].machine, 8: ran[1].machine}
    first, second = ran[0].machine, ran[1].machine
    assert (first.workers, first.address, first.stage) == (8, address or "head:6379", "s3://x/y")
    assert (second.device, second.address) == ("cpu", address)


def test_what_a_tick_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortcomings of the runs, failed audits and jobs, and drift; a run that was deleted is no fault."""

    def run(spec: RunSpec, *_: object) -> SimpleNamespace:
        return SimpleNamespace(
            run_id=9, quarantined=2, uncertified=3, name="x", committed=4, n_examples=6, accuracy=0.5
        )

    def compare(_store: object, _before: int, _now: int, top: int) -> pa.Table:
        rows = [("correlation", "attattr spearman", 0.95), ("accuracy", "accuracy", -0.03)]
        return pa.Table.from_pylist(
            [{"part": part, "name": name, "value": value} for part, name, value in rows]
        )

    audits = [
        SimpleNamespace(name="fine", passed=True, n_rows=0),
        SimpleNamespace(name="bad", passed=False, n_rows=7),
    ]
    jobs = [
        SimpleNamespace(job="slow", status="failed", error="why", quarantined=0),
        SimpleNamespace(job="part", status="built", error=None, quarantined=1),
    ]
    monkeypatch.setattr(attributing, "run_spec", run)
    monkeypatch.setattr(attributing, "run_jobs", lambda *_: jobs)
    monkeypatch.setattr(attributing, "run_audits", lambda store: (audits, []))
    monkeypatch.setattr(attributing, "diff_runs", compare)
    monkeypatch.setattr(attributing, "list_runs", lambda _: [SimpleNamespace(run_id=2)])
    schedule = Bench(tmp_path).add(jobs=("all",), max_accuracy_drop=0.02, min_rank_correlation=0.9)
    Store(schedule.db, create=True).migrate()

    def findings(previous: int) -> list[str]:
        return list(attribute(schedule, [spec()], [previous], lambda progress: None).findings)

    expected = [
        "run x: 2 examples quarantined",
        "run x: 3 rows missed the tolerance",
        "job slow failed: why",
        "job part: 1 examples quarantined",
        "audit bad: 7 offending rows",
    ]
    assert findings(1) == expected
    *others, drift = findings(2)
    assert others == expected
    assert drift == "drift: accuracy is 0.0300 below that of run 2, more than 0.02"

    def locked(*_: object, **__: object) -> None:
        raise StoreError("the database is locked")

    for name in ("diff_runs", "run_jobs"):
        with monkeypatch.context() as patch, pytest.raises(StoreError, match="is locked"):
            patch.setattr(attributing, name, locked)
            findings(2)
