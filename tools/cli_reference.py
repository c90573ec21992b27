"""docs/cli.md, generated from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from attattr_batch.cli.main import app

_INTRODUCTION = """\
# Command line

Generated from the commands by `make docs`; `make check` keeps it up to date.

`attattr COMMAND --help` says the same in the terminal, `attattr --version` which version it is, and
`attattr --install-completion` sets up completion in your shell. Data goes to stdout, messages to stderr.

Exit codes:

- 0: all good.
- 1: finished, but not everything is good: quarantined examples, rows that missed the tolerance, failed audits
  or jobs, a tick that needs attention, something that `doctor` found; or you answered no to a question.
- 2: wrong usage or input, or a run that was given up; the message says what is wrong, what was got, what is
  allowed, and what to do next.
- 70: a fault of ours, shown with its traceback; please report it.
- 130: interrupted; what is committed is kept.
"""


_EXAMPLES = re.compile(r"\x08\nExamples?:\n((?: +.*(?:\n|$))+)")


def reference_markdown() -> str:
    """The whole reference as Markdown."""
    every = list(commands(typer.main.get_command(app), "attattr"))
    index = [f"- [`{name}`](#{_anchor(name)}): {_first_line(command)}" for name, command in every]
    sections = [_section(name, command) for name, command in every]
    return "\n".join([_INTRODUCTION, *index, "", *sections])


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name, in the order of `--help`."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for short, inner in command.commands.items():
        yield from commands(inner, f"{name} {short}")


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    words = [_word(one) for one in arguments]
    usage = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", f"```text\n{usage}\n```", "", _text(command.help), ""]
    if arguments or options:
        lines += ["| parameter | default | meaning |", "|---|---|---|"]
        lines += [_row(word, one) for word, one in zip(words, arguments, strict=True)]
        lines += [_row(", ".join([*one.opts, *one.secondary_opts]), one) for one in options]
        lines.append("")
    return "\n".join(lines)


def _text(text: str) -> str:
    """Help as Markdown, without the mark that keeps lines apart in the terminal."""
    return _EXAMPLES.sub(_as_block, text).replace("\b\n", "")


def _as_block(examples: re.Match[str]) -> str:
    return f"```bash\n{inspect.cleandoc(examples[1])}\n```"


def _word(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _row(name: str, parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        shown = "needed"
    elif default is None or default is False or callable(default):
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    cells = (f"`{name}`", shown, " ".join((parameter.help or "").split()))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _first_line(command: Any) -> str:
    return str(command.help or "").strip().splitlines()[0]


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
