"""Submitting runs as a Ray job: the driver then runs on the cluster's head, and this machine may leave.

The submission id comes from the identity of the runs and the store, so the same work is submitted once,
however often it is asked for. A job that ended badly is submitted again under the next number (`-2`, `-3`),
and resumes.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attattr_batch.errors import UserError
from attattr_batch.identity import content_key
from attattr_batch.runtime.executors.ray_session import (
    check_reachable,
    first_line,
    prepare_environment,
    token_refused,
)
from attattr_batch.spec import RunSpec, make_spec

_DASHBOARD_PORT = 8265
_POLL_S = 1.0
_NO_AGENT = "No available agent"
_ID_TAKEN = "already exists"
_AGENT_S = 120.0
_LOG_REST = 20
"""Ray gives a log only as a whole: a fetch is followed by a rest of so many times as long as it took."""


@dataclass(frozen=True)
class Submission:
    """A job on the cluster.

    Attributes:
        submission_id: Its id.
        new: Whether this call submitted it; else it was there.
    """

    submission_id: str
    new: bool


class Jobs:
    """The Ray Jobs API of a cluster.

    Args:
        address: The head's dashboard, `http://head:8265`.

    Raises:
        UserError: the cluster cannot be reached, refuses the token, or Ray's job client is not installed.
    """

    def __init__(self, address: str):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            allowed = "http://HOST:PORT of the head's dashboard, usually port 8265"
            raise UserError("jobs are submitted to a web address", got=address, allowed=allowed)
        check_reachable(
            parts.hostname, parts.port or _DASHBOARD_PORT, "the head's dashboard, usually port 8265"
        )
        prepare_environment()
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        try:
            self._client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise token_refused(address, error) from error
        except (RuntimeError, ConnectionError, ValueError) as error:
            hint = "`pip install 'ray[default]'` where Ray's job client is missing"
            raise UserError(
                "the cluster's job server cannot be used", got=f"{address}: {first_line(error)}", hint=hint
            ) from error

    def submit(self, specs: Sequence[RunSpec], db: Path) -> Submission:
        """Submits the runs, unless the same are running or done there.

        Args:
            specs: The runs. Models and data must be found under the same paths here and on the cluster.
            db: The store, as an absolute path on the head.

        Raises:
            UserError: a run cannot be planned; nothing was submitted.
        """
        first = submission_id = f"attattr-{_key(specs, db)[:24]}"
        jobs = {job.submission_id: job for job in self._client.list_jobs()}
        # A failed job keeps its id. Under the same one, Ray's watch over the failed job, which outlives it
        # by a second, would find its supervisor gone and report that of the new job.
        for attempt in itertools.count(2):
            job = jobs.get(submission_id)
            if job is None:
                break
            if not job.status.is_terminal() or job.status == "SUCCEEDED":
                return Submission(submission_id, new=False)
            submission_id = f"{first}-{attempt}"
        with tempfile.TemporaryDirectory() as folder:
            runs = [{key: value for key, value in spec.flat().items() if value is not None} for spec in specs]
            (Path(folder) / "spec.yaml").write_text(json.dumps({"runs": runs}, indent=1), encoding="utf-8")
            command = [
                "python",
                "-m",
                "attattr_batch",
                "run",
                "spec.yaml",
                "--db",
                str(db),
                "--address",
                "auto",
            ]
            return Submission(submission_id, new=self._hand_in(submission_id, shlex.join(command), folder))

    def _hand_in(self, submission_id: str, entrypoint: str, folder: str) -> bool:
        """Submits, and returns False where another has just done so.

        A cluster that has just started has a job server before it has anyone to start jobs.
        """
        deadline = time.monotonic() + _AGENT_S
        while True:
            try:
                self._client.submit_job(
                    entrypoint=entrypoint, submission_id=submission_id, runtime_env={"working_dir": folder}
                )
                return True
            except RuntimeError as error:
                if _ID_TAKEN in str(error):
                    return False
                if _NO_AGENT not in str(error) or time.monotonic() > deadline:
                    raise UserError("the cluster does not take the job", got=first_line(error)) from error
            time.sleep(_POLL_S)

    def follow(self, submission_id: str, write: Callable[[str], Any] | None = None) -> int:
        """Writes the job's log as it comes (to stderr), and returns the exit code of `attattr run` there."""
        write = write or sys.stderr.write
        # Asked for again and again: Ray's own stream of the log stays open after a job that failed.
        shown, rested = 0, 0.0
        while True:
            job = self._client.get_job_info(submission_id)
            began, ended = time.monotonic(), job.status.is_terminal()
            if ended or began >= rested:
                text = self._client.get_job_logs(submission_id)
                write(text[shown:])
                shown, now = len(text), time.monotonic()
                rested = now + _LOG_REST * (now - began)
            if ended:
                break
            time.sleep(_POLL_S)
        if job.status == "SUCCEEDED":
            return 0
        if job.driver_exit_code is None or job.driver_exit_code < 0:
            raise UserError(
                "the job did not end by itself", got=f"{submission_id}: {job.status}: {job.message}"
            )
        return int(job.driver_exit_code)


def _key(specs: Sequence[RunSpec], db: Path) -> str:
    from attattr_batch.passes.planning import (
        plan_attribution,  # with torch: what is refused is refused at once
    )

    # The device is the cluster's business, and no part of the identity.
    plans = [plan_attribution(make_spec(spec.flat() | {"device": "cpu"})) for spec in specs]
    return content_key({"runs": [plan.run_key for plan in plans], "db": str(db)})
