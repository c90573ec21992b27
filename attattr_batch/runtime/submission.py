"""Submitting runs to Ray's job server: the driver runs on the cluster's head, and this machine may leave.

The submission id comes from the identity of the runs and the store, so the same work is submitted once,
however often it is asked for. A submission that ended badly is made again under the next number (`-2`, `-3`),
and resumes.
"""

from __future__ import annotations

import itertools
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
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
"""Ray gives a log only as a whole, so each fetch is followed by a rest, this many times as long."""


class JobServer:
    """A cluster's job server.

    Args:
        address: The head's dashboard, `http://head:8265`.

    Raises:
        UserError: the cluster cannot be reached, refuses the token, or Ray's job client is not installed.
    """

    def __init__(self, address: str):
        parts, allowed = urlsplit(address), "http://HOST:PORT of the head's dashboard, usually port 8265"
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise UserError("the address must be a web address", got=address, allowed=allowed)
        check_reachable(parts.hostname, parts.port or _DASHBOARD_PORT, allowed)
        prepare_environment()
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        try:
            self._client = JobSubmissionClient(address)
        except AuthenticationError as error:
            raise token_refused(address, error) from error
        except (RuntimeError, ConnectionError, ValueError) as error:
            hint = "`pip install 'ray[default]'` if Ray's job client is missing"
            raise UserError(
                "the cluster's job server cannot be used", got=f"{address}: {first_line(error)}", hint=hint
            ) from error

    def submit(self, specs: Sequence[RunSpec], db: Path) -> tuple[str, bool]:
        """Submits the runs, unless the same runs are there already, running or done.

        Args:
            specs: The runs. Models and data must lie under the same paths here and on the cluster.
            db: The store, as an absolute path on the head.

        Returns:
            The submission id, and whether this call made the submission; otherwise it was there.

        Raises:
            UserError: a run cannot be planned; nothing was submitted.
        """
        first = f"attattr-{_key(specs, db)[:24]}"
        known = {one.submission_id: one.status for one in self._client.list_jobs()}
        # A failed submission keeps its id. Ray's watch over it outlives it by a second: under the same id it
        # would find its supervisor gone and report that of the new one.
        ids = (first if number == 1 else f"{first}-{number}" for number in itertools.count(1))
        submission_id = next(one for one in ids if known.get(one) not in ("FAILED", "STOPPED"))
        if submission_id in known:
            return submission_id, False
        with tempfile.TemporaryDirectory() as folder:
            runs = [{key: value for key, value in spec.flat().items() if value is not None} for spec in specs]
            Path(folder, "spec.yaml").write_text(json.dumps({"runs": runs}, indent=1), encoding="utf-8")
            command = f"python -m attattr_batch run spec.yaml --db {shlex.quote(str(db))} --address auto"
            return submission_id, self._hand_in(submission_id, command, folder)

    def _hand_in(self, submission_id: str, entrypoint: str, folder: str) -> bool:
        """Submits, and returns False if somebody else has just done so.

        A cluster that has just started has a job server before it has an agent that starts commands.
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
                    raise UserError("the cluster does not take the runs", got=first_line(error)) from error
            time.sleep(_POLL_S)

    def follow(self, submission_id: str, write: Callable[[str], Any]) -> int:
        """Writes the log as it comes, and returns the exit code of `attattr run` on the head."""
        # Not with Ray's own stream of the log, which stays open after a failure.
        shown, ended = 0, False
        while not ended:
            job, began = self._client.get_job_info(submission_id), time.monotonic()
            ended = job.status.is_terminal()
            text = self._client.get_job_logs(submission_id)
            write(text[shown:])
            shown = len(text)
            if not ended:
                time.sleep(max(_POLL_S, _LOG_REST * (time.monotonic() - began)))
        if job.status == "SUCCEEDED":
            return 0
        if job.driver_exit_code is None or job.driver_exit_code < 0:
            got = f"{submission_id}: {job.status}: {job.message}"
            raise UserError("the command on the head did not end by itself", got=got)
        return int(job.driver_exit_code)


def _key(specs: Sequence[RunSpec], db: Path) -> str:
    from attattr_batch.passes.planning import plan_attribution  # imports torch, so not before the address

    # The devices are the cluster's, which are not seen from here, and no part of the identity.
    plans = []
    for spec in specs:
        device = "cpu" if spec.machine.device == "cpu" else "cuda"
        there = {"device": device, "executor": "auto", "address": "auto"}
        plans.append(plan_attribution(make_spec(spec.flat() | there)))
    return content_key({"runs": [plan.run_key for plan in plans], "db": str(db)})
