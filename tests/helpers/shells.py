"""Commands in one process with its own environment: a start costs five seconds where torch is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple


class Answer(NamedTuple):
    code: int
    out: str
    err: str


SHELL = """
import contextlib, io, json, os, sys
from attattr_batch.cli.main import run_command_line
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command_line(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
os._exit(0)
"""


class Shell:
    """A process that runs one command line after another: libraries read their environment once."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def __call__(self, *arguments: object) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._process.stdin.flush()
        return Answer(*json.loads(self._process.stdout.readline()))


@contextmanager
def shell(environment: Mapping[str, str]) -> Iterator[Shell]:
    command = [sys.executable, "-c", SHELL]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        yield Shell(process)
        assert process.stdin is not None
        process.stdin.close()
