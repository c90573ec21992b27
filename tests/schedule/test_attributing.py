"""What a tick asks of the runtime: its runs, and jobs for them in the same place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scheduling import Bench

from attattr_batch.analysis.runner import JobRequest
from attattr_batch.schedule import attributing
from attattr_batch.schedule.attributing import Attributing
from attattr_batch.spec import RunSpec, make_spec


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
    work = Attributing(lambda progress: None, address)
    work.run(schedule, [spec(workers=8, address="head:6379", stage="s3://x/y"), spec(device="cpu")], [])
    (request,) = asked
    assert list(request.runs) == ["7", "8"]
    assert request.machines == {7: ran[0], 8: ran[1]}
    assert (ran[0].workers, ran[0].address, ran[0].stage) == (8, address or "head:6379", "s3://x/y")
    assert (ran[1].device, ran[1].address) == ("cpu", address)
