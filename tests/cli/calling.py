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
