"""Help teaches; near misses are named."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from cli_reference import commands
from helpers.calling import Cli

from attattr_batch.cli.main import app
from attattr_batch.report.figures import FIGURES
from attattr_batch.spec import RUN_KEYS

COMMANDS = dict(commands(typer.main.get_command(app), "attattr"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained_by_an_example_that_calls_it(name: str) -> None:
    about, _, examples = COMMANDS[name].help.partition("\b\nExample")
    assert about and name in examples, "give its docstring an example"
    assert all(one.help for one in COMMANDS[name].params), "every parameter says what it is for"


@pytest.mark.parametrize("key", RUN_KEYS)
def test_run_explains_every_key_of_a_spec(
    key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The message about a wrong key sends people there."""
    said = Cli(capsys, tmp_path / "none.duckdb").bare("run", "--help").out
    assert f"\n  - {key}: " in said or f"\n  --{key.replace('_', '-')} <" in said


def test_plot_names_every_figure() -> None:
    (kind,) = (one for one in COMMANDS["attattr plot"].params if one.name == "kind")
    assert re.findall(r"\w+", kind.help.replace(" or ", ", ")) == list(FIGURES)


def test_the_version(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert Cli(capsys, tmp_path).bare("--version") == (0, f"attattr-batch {version('attattr-batch')}\n", "")


def test_near_misses_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli = Cli(capsys, tmp_path / "none.duckdb")
    assert "'report'" in cli.bare("reprot").err
    assert "'list'" in cli.bare("jobs", "lits").err
    assert "--limit" in cli.bare("run", "--limt", "3").err
    assert cli.bare("reprot").code == 2
