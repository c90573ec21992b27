"""A process that imports everything once and forks a child for each command: a start costs 0.02 s, not 4 s.

`Zygote` is the side that asks. Run as a program, this file is the side that forks. Requests and answers are
lines of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers.points import Conditions

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; a signal's number below zero.
        seconds: How long it took.
        said: What it wrote to stdout and stderr.
    """

    code: int
    seconds: float
    said: str


@dataclass(frozen=True)
class Signal:
    """A signal from outside, some seconds after the start."""

    how: int
    after_s: float


class Running:
    """A command that has been started."""

    def __init__(self, zygote: Zygote, pid: int, log: Path, sent: Signal | None):
        self._zygote, self.pid, self._log = zygote, pid, log
        self._timer: threading.Timer | None = None
        if sent is not None:
            # The zygote has not reaped the child yet, so the number is still the child's.
            handle = os.pidfd_open(pid)
            self._timer = threading.Timer(sent.after_s, _send, [handle, sent.how])
            self._timer.start()

    def wait(self) -> Ended:
        """Waits until it has ended."""
        answer = self._zygote.ask({"wait": self.pid})
        if self._timer is not None:
            self._timer.join()
        return Ended(answer["code"], answer["seconds"], self._log.read_text(errors="replace"))


def _send(handle: int, how: int) -> None:
    try:
        signal.pidfd_send_signal(handle, how)
    except ProcessLookupError:
        pass  # it had ended before
    finally:
        os.close(handle)


class Zygote:
    """Starts commands; a context manager.

    Args:
        folder: Where what commands write to stdout and stderr is kept.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._count = 0

    def __enter__(self) -> Zygote:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)]),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "helpers.zygote"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == {"ready": True}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def start(
        self, arguments: Sequence[str], conditions: Conditions | None = None, sent: Signal | None = None
    ) -> Running:
        """Starts `attattr` with the arguments."""
        self._count += 1
        log = self._folder / f"{self._count}.log"
        fields = asdict(conditions or Conditions())
        answer = self.ask({"arguments": list(arguments), "conditions": fields, "log": str(log)})
        return Running(self, answer["pid"], log, sent)

    def run(
        self, arguments: Sequence[str], conditions: Conditions | None = None, sent: Signal | None = None
    ) -> Ended:
        """Runs `attattr` to its end."""
        return self.start(arguments, conditions, sent).wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request; returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def serve() -> None:
    """Answers requests until nobody asks any more."""
    import transformers.modeling_utils  # noqa: F401

    from attattr_batch.cli import main

    _warm_up()
    answers = os.fdopen(os.dup(1), "w")
    started: dict[int, float] = {}
    print('{"ready": true}', file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid = request["wait"]
            _, status = os.waitpid(pid, 0)
            seconds = time.monotonic() - started.pop(pid)
            answer = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        else:
            moment = time.monotonic()
            pid = os.fork()
            if pid == 0:
                _become(request, main)
            started[pid] = moment
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)


def _warm_up() -> None:
    """Loads what a run loads lazily. Opens no database: a fork would not have its threads."""
    import pandas  # type: ignore[import-untyped]  # noqa: F401
    import torch

    import attattr_batch.store.database.connection  # noqa: F401
    from attattr_batch.engine.model_source import find_model
    from attattr_batch.engine.models import load_model
    from attattr_batch.passes.planning import plan_attribution
    from attattr_batch.spec import make_spec

    spec = make_spec({"task": "sst2", "model": "bundled", "data_dir": "bundled", "limit": 2})
    plan_attribution(spec).tables()
    load_model(find_model("bundled", task="sst2"), torch.device("cpu"))


def _become(request: dict[str, Any], main: Any) -> None:
    """Turns this child into the command, as `attattr` is after its imports."""
    code = 99
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGTERM, main._interrupt)
        # A shell's `command &` ignores interrupts for all below it, and a test may stand there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Conditions.of(request["conditions"]).install()
        code = main.run_command_line(request["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
