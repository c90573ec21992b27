"""docs/cli.md is what the commands say; help teaches; near misses are named."""

from pathlib import Path

import pytest
import typer
from calling import Cli

from attattr_batch.cli import reference
from attattr_batch.cli.main import app

COMMANDS = dict(reference._commands(typer.main.get_command(app), "attattr"))


def test_the_reference_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_reference_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cli.md"
    monkeypatch.setattr(reference, "_PATH", path)
    assert reference.main(["--check"]) == 1
    assert reference.main(["--write"]) == 0
    assert reference.main(["--check"]) == 0
    path.write_text(path.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert reference.main(["--check"]) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained_by_an_example_that_calls_it(name: str) -> None:
    assert COMMANDS[name].help
    assert name in (COMMANDS[name].epilog or ""), "give the command an epilog with an example"
    assert all(one.help for one in COMMANDS[name].params), "every parameter says what it is for"


def test_near_misses_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli = Cli(capsys, tmp_path / "none.duckdb")
    assert "'report'" in cli.bare("reprot").err
    assert "'list'" in cli.bare("jobs", "lits").err
    assert "--limit" in cli.bare("run", "--limt", "3").err
    assert cli.bare("reprot").code == 2
