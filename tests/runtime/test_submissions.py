"""Which id a Ray job is submitted under, and when none is; the job server is a fake with Ray's own words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attattr_batch.runtime.executors import ray_jobs
from attattr_batch.runtime.executors.ray_jobs import Jobs, Submission

pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")

ID = "attattr-" + "0" * 24


class Server:
    """A job server that has jobs, and jobs that another submits after they were listed."""

    def __init__(self, listed: dict[str, str], meanwhile: tuple[str, ...] = ()):
        self.listed, self.taken, self.new = listed, {*listed, *meanwhile}, list[str]()

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=name, status=_Status(is_)) for name, is_ in self.listed.items()]

    def submit_job(self, *, submission_id: str, **_: object) -> None:
        if submission_id in self.taken:
            raise RuntimeError(
                "Request failed with status code 500: Traceback (most recent call last):\n"
                f"ValueError: Job with submission_id {submission_id} already exists. "
                "Please use a different submission_id."
            )
        self.new.append(submission_id)


class _Status(str):
    __slots__ = ()

    def is_terminal(self) -> bool:
        return self in ("STOPPED", "SUCCEEDED", "FAILED")


def submit(server: Server, monkeypatch: pytest.MonkeyPatch) -> Submission:
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: server)
    monkeypatch.setattr(ray_jobs, "check_reachable", lambda *_: None)
    monkeypatch.setattr(ray_jobs, "_key", lambda specs, db: "0" * 64)
    return Jobs("http://head:8265").submit([], Path("/store.duckdb"))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({}, Submission(ID, new=True)),
        ({"another": "FAILED"}, Submission(ID, new=True)),
        ({ID: "PENDING"}, Submission(ID, new=False)),
        ({ID: "RUNNING"}, Submission(ID, new=False)),
        ({ID: "SUCCEEDED"}, Submission(ID, new=False)),
        ({ID: "FAILED"}, Submission(f"{ID}-2", new=True)),
        ({f"{ID}-2": "STOPPED", ID: "FAILED"}, Submission(f"{ID}-3", new=True)),
        ({ID: "FAILED", f"{ID}-2": "RUNNING"}, Submission(f"{ID}-2", new=False)),
    ],
)
def test_the_same_work_is_submitted_once_and_again_only_after_a_failure(
    listed: dict[str, str], expected: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(listed)
    assert submit(server, monkeypatch) == expected
    assert server.new == [expected.submission_id] * expected.new


def test_who_comes_second_is_told_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({}, meanwhile=(ID,))
    assert submit(server, monkeypatch) == Submission(ID, new=False)
