"""The id of a submission, when there is none, and its log; the server is a fake with Ray's words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attattr_batch.runtime import submission
from attattr_batch.runtime.submission import JobServer

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


def jobs(server: Server, monkeypatch: pytest.MonkeyPatch) -> JobServer:
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: server)
    monkeypatch.setattr(submission, "check_reachable", lambda *_: None)
    return JobServer("http://head:8265")


def submit(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bool]:
    monkeypatch.setattr(submission, "_key", lambda specs, db: "0" * 64)
    return jobs(server, monkeypatch).submit([], Path("/store.duckdb"))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({}, (ID, True)),
        ({"another": "FAILED"}, (ID, True)),
        ({ID: "PENDING"}, (ID, False)),
        ({ID: "RUNNING"}, (ID, False)),
        ({ID: "SUCCEEDED"}, (ID, False)),
        ({ID: "FAILED"}, (f"{ID}-2", True)),
        ({f"{ID}-2": "STOPPED", ID: "FAILED"}, (f"{ID}-3", True)),
        ({ID: "FAILED", f"{ID}-2": "RUNNING"}, (f"{ID}-2", False)),
    ],
)
def test_the_same_work_is_submitted_once_and_again_only_after_a_failure(
    listed: dict[str, str], expected: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(listed)
    assert submit(server, monkeypatch) == expected
    assert server.new == [expected[0]] * expected[1]


def test_a_long_log_is_fetched_rarely_and_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives it as a whole; here a fetch takes two seconds, and the job an hour."""
    clock, shown, fetched = SimpleNamespace(now=0.0), list[str](), list[float]()

    class Running(Server):
        def get_job_info(self, _: str) -> Any:
            status = _Status("SUCCEEDED" if clock.now > 3600 else "RUNNING")
            return SimpleNamespace(status=status, driver_exit_code=0)

        def get_job_logs(self, _: str) -> str:
            fetched.append(clock.now)
            log = "".join(f"line {second}\n" for second in range(int(clock.now)))
            clock.now += 2.0
            return log

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(submission, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    assert jobs(Running({}), monkeypatch).follow(ID, shown.append) == 0
    assert "".join(shown) == "".join(f"line {second}\n" for second in range(int(fetched[-1])))
    assert 3600 < fetched[-1] < 3645, "the last lines are fetched when all has ended"
    assert 2.0 * len(fetched) < 0.06 * 3600


def test_who_comes_second_is_told_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({}, meanwhile=(ID,))
    assert submit(server, monkeypatch) == (ID, False)
