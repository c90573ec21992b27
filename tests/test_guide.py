"""The guide's commands and snippets run as they stand, on bundled data; those in its prose are understood."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer

from attattr_batch.cli.main import app, run_command_line
from attattr_batch.files import bundled_folder

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")

N_ROWS = 12

SERVES_UNTIL_STOPPED = "attattr dashboard"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the guide takes for granted: a model of one's own and a GLUE folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundled_folder() / "models" / "sst2", tmp_path / "my-sst2-model")
    (tmp_path / "glue" / "SST-2").mkdir(parents=True)
    lines = (bundled_folder() / "data" / "SST-2" / "dev.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "glue" / "SST-2" / "dev.tsv").write_text("".join(lines[: 1 + N_ROWS]))
    return tmp_path


@pytest.fixture
def head_views(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stands for BertViz, which is not installed with us; gives the arguments of each call."""
    calls: list[tuple[Any, ...]] = []

    def head_view(attention: Any, tokens: Any, sentence_b_start: Any = None) -> None:
        calls.append((attention, tokens, sentence_b_start))

    module = ModuleType("bertviz")
    module.head_view = head_view  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bertviz", module)
    return calls


@pytest.mark.slow
def test_every_block_runs(
    place: Path, head_views: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert all(line.startswith("attattr ") for line in commands)
    served = [line for line in commands if line.startswith(SERVES_UNTIL_STOPPED)]
    for line in commands:
        if line not in served:
            assert run_command_line(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert len(served) == 1
    for made in ("report.html", "pruning.svg", "tree.svg", "backup.duckdb", "exported/README.md"):
        assert (place / made).is_file(), made
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert "accuracy" in names["chart"].to_json()
    assert len(names["scores"]) == N_ROWS * 2 * 16
    ((layers, tokens, second),) = head_views
    assert [layer.shape for layer in layers] == [(1, 4, len(tokens), len(tokens))] * 4
    assert second is None and torch.stack(layers).max() == 1


def test_commands_in_the_prose_are_understood() -> None:
    prose = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    commands = re.findall(r"`attattr ([^`]+)`", prose)
    assert len(commands) >= 8
    for command in commands:
        understand(typer.main.get_command(app), shlex.split(command))


def understand(command: Any, words: list[str]) -> None:
    """Parses a command line without running it; a word or option that does not exist is an error."""
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)] if words else None
    if command is not None and words:
        command.make_context("attattr", words)
