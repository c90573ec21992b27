"""The settings of a run as options of a command, declared once: in the models of `attattr_batch.spec`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

RetryErrorsOption = Annotated[bool, typer.Option("--retry-errors", help="Try quarantined examples again.")]

Command = Callable[..., None]


def meaning(field: FieldInfo) -> str:
    """What a setting means, in one line."""
    return " ".join((field.description or "").split())


def is_flag(field: FieldInfo) -> bool:
    """Whether a setting can be an option: lists and mappings are for specs."""
    return get_origin(_type(field)) not in (list, dict)


def settings_as_options(fields: Mapping[str, FieldInfo]) -> Callable[[Command], Command]:
    """Replaces the parameter `settings` of a command by options, one for each setting that can be one.

    The command gets the settings that were given, by key; `--data-dir x` becomes `{"data_dir": "x"}`.

    Args:
        fields: The settings.
    """
    flags = {key: field for key, field in fields.items() if is_flag(field)}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            values = {key: given.pop(key) for key in flags}
            command(**given, settings={key: value for key, value in values.items() if value is not None})

        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "settings":
                parameters += [_option(key, field) for key, field in flags.items()]
            else:
                parameters.append(parameter)
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _option(key: str, field: FieldInfo) -> inspect.Parameter:
    default = f"{field.default:g}" if isinstance(field.default, float) else field.default
    shown = "" if field.is_required() or default is None else f" [default: {default}]"
    kind = Annotated[_type(field) | None, typer.Option(help=meaning(field) + shown)]
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _type(field: FieldInfo) -> Any:
    """The type of a setting, `int` for `Annotated[int, ...] | None`; the first of several."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kind = get_args(kind)[0]
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
