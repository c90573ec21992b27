"""Calls the command line within the test's process: the command's own code, less leaving the process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from attattr_batch.cli.main import run_command_line


class Answer(NamedTuple):
    """What a command came to: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


class Cli:
    """The command line over one store.

    Attributes:
        db: The store.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], db: Path):
        self._capsys = capsys
        self.db = db

    def __call__(self, *arguments: object) -> Answer:
        """Runs a command on the store."""
        return self.bare(*arguments, "--db", self.db)

    def bare(self, *arguments: object) -> Answer:
        """Runs a command without naming the store."""
        self._capsys.readouterr()
        code = run_command_line([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err, captured.err
        return Answer(code, captured.out, captured.err)

    def refuses(self, *arguments: object) -> str:
        """Runs a command that must end with exit code 2 and a message, which is returned."""
        answer = self(*arguments)
        assert (answer.code, answer.out) == (2, ""), answer
        return answer.err


def contains(message: str, *fragments: str) -> bool:
    """Whether every fragment stands in the message; says which does not."""
    for fragment in fragments:
        assert fragment in message
    return True


def fill(db: Path, model: Path, data: Path, n_examples: int) -> None:
    """Makes a store with a run `first` over the first examples of SST-2."""
    run = ["run", "--task", "sst2", "--model", str(model), "--data-dir", str(data), "--name", "first"]
    assert run_command_line([*run, "--limit", str(n_examples), "--db", str(db), "--quiet"]) == 0


def build_jobs(db: Path) -> None:
    """Builds every job of a store, with parameters that ask little of the model."""
    small = "replicates=5 patterns=2 victims=3 control_draws=1 report_victims=3 report_draws=1 min_rows=2"
    params = [argument for one in small.split() for argument in ("--param", one)]
    assert run_command_line(["jobs", "run", "--db", str(db), "--quiet", *params]) == 0
