"""Reads run specs from YAML files."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from attattr_batch.errors import UserError
from attattr_batch.spec import BUNDLED, RunSpec, SpecModel, make_settings, make_spec


class _SpecFile(SpecModel):
    """A spec file of several runs."""

    defaults: dict[Any, Any] | None = None
    """Settings that every run takes unless it has its own."""
    runs: Annotated[list[dict[Any, Any]], Field(min_length=1)]
    """The runs."""


# Besides its own errors, PyYAML lets through Python's about `!!int x`, `2001-99-99`, `!!bool x` and
# `!!timestamp x`, and about a document that is nested too deep.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)

# Keys whose value may be a path, relative to the spec file.
_PATH_KEYS = ("data_dir", "model", "dataset", "stage")


def load_spec(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    prepare: Callable[[str], str] = lambda text: text,
) -> list[RunSpec]:
    """Reads a spec file into runs.

    The file is a mapping of run keys, or `defaults:` with such keys and `runs:` with a list of them.

    Args:
        path: The file.
        overrides: Settings that win over the file's (command-line flags).
        prepare: Applied to the file's text before it is read as YAML.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value is not allowed.
    """
    try:
        text = prepare(path.read_text(encoding="utf-8"))
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot read the run spec", got=f"{path}: {error}", hint="check the path") from error
    except _YAML_ERRORS as error:
        got = f"{path}: {str(error) or type(error).__name__}"
        raise UserError("the run spec is not valid YAML", got=got) from error
    overrides, runs = overrides or {}, _run_mappings(content, path)
    if len(runs) > 1 and "name" in overrides:
        raise UserError(
            "`name` cannot be given for several runs at once",
            got=f"{path} holds {len(runs)} runs",
            hint="give each its `name` in the spec",
        )
    resolved = [{key: _resolve(key, value, path.parent) for key, value in run.items()} for run in runs]
    return [make_spec({**run, **overrides}, where=str(path)) for run in resolved]


def _run_mappings(content: Any, path: Path) -> list[dict[Any, Any]]:
    if not isinstance(content, dict):
        raise UserError(
            "a run spec must be a mapping",
            got=f"{path}: {type(content).__name__}",
            allowed="run keys, or `defaults:` and `runs:`",
        )
    if not _SpecFile.model_fields.keys() & content.keys():
        return [content]
    file = make_settings(_SpecFile, content, str(path))
    return [{**(file.defaults or {}), **run} for run in file.runs]


def _resolve(key: str, value: Any, folder: Path) -> Any:
    if key not in _PATH_KEYS or not isinstance(value, str) or value == BUNDLED:
        return value
    try:
        candidate = folder / Path(value).expanduser()
        # A `*` watches a folder of checkpoints (schedules). A stage is a folder or an address, and is made.
        is_path = value.startswith((".", "/", "~")) or "*" in value or candidate.exists()
        if key == "stage":
            is_path = "://" not in value
        return str(candidate.resolve()) if is_path else value
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, nobody's home
        got = f"{key}: {reprlib.repr(value):.200}: {error}"
        raise UserError("a path in the run spec cannot be used", got=got) from error
