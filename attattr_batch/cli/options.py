"""How commands are made: settings become options, and docstrings become help."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

RetryErrorsOption = Annotated[bool, typer.Option("--retry-errors", help="Try quarantined examples again.")]

Command = Callable[..., None]


def add_commands(app: typer.Typer, *commands: Command) -> None:
    """Adds functions as commands (`list_` as `list`, `run_due` as `run-due`), with the docstring as help."""
    for command in commands:
        # Without the mark \b, click would fill the examples into one paragraph.
        text = (inspect.getdoc(command) or "").replace("\n\nExample", "\n\n\b\nExample")
        name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name, help=text)(command)


def replaced(
    name: str, options: Iterable[inspect.Parameter], build: Callable[[dict[str, Any]], Any]
) -> Callable[[Command], Command]:
    """Replaces the parameter `name` of a command by options; the command gets what `build` makes of them."""
    options = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in options]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            values = {one.name: given.pop(one.name) for one in options}
            command(**given, **{name: build(values)})

        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options if parameter.name == name else [parameter]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def settings_as_options(fields: Mapping[str, FieldInfo]) -> Callable[[Command], Command]:
    """Replaces the parameter `settings` of a command by options, one for each setting that can be one.

    The command gets the settings that were given, by key: `--data-dir x` becomes `{"data_dir": "x"}`. Lists
    and mappings are for specs alone; the help names them too.

    Args:
        fields: The settings, as declared in `attattr_batch.spec`.
    """
    flags = {key: field for key, field in fields.items() if get_origin(_type(field)) not in (list, dict)}
    others = [
        textwrap.fill(f"- {key}: {_meaning(field)}", 76, subsequent_indent="  ")
        for key, field in fields.items()
        if key not in flags
    ]

    options = [_option(key, field) for key, field in flags.items()]
    replace = replaced(
        "settings", options, lambda values: {key: one for key, one in values.items() if one is not None}
    )

    def decorate(command: Command) -> Command:
        call = replace(command)
        if others:
            also = "Settings are keys of a spec (`data_dir` for --data-dir), which has these too:"
            call.__doc__ = "\n".join([f"{inspect.getdoc(command)}\n\n{also}\n\n\b", *others])
        return call

    return decorate


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _option(key: str, field: FieldInfo) -> inspect.Parameter:
    default = f"{field.default:g}" if isinstance(field.default, float) else field.default
    shown = "" if field.is_required() or default is None else f" [default: {default}]"
    kind: Any = Annotated[_type(field) | None, typer.Option(help=_meaning(field) + shown)]
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _type(field: FieldInfo) -> Any:
    """The type of a setting, `int` for `Annotated[int, ...] | None`; the first of several."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kind = get_args(kind)[0]
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
