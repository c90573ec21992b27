"""How to make a store's results again: the spec of its runs and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from sqlalchemy import Connection, Row, text

from attattr_batch.analysis.jobs import load_catalogue
from attattr_batch.spec import RunSpec


def run_spec_yaml(runs: Sequence[Row[Any]]) -> str:
    """A run spec that asks for the same runs: `attattr run` takes it.

    Args:
        runs: Rows of `runs`. Their folders are written as they were given.
    """
    return yaml.safe_dump(
        {"runs": [_settings(run) for run in runs]}, sort_keys=False, allow_unicode=True, width=10_000
    )


def commands(connection: Connection) -> str:
    """The commands after the spec is saved as `runs.yaml`, with every parameter that was not the default."""
    lines = ["attattr run runs.yaml"]
    built = {
        job: params for job, params in connection.execute(text("SELECT job, params FROM built_jobs")).all()
    }
    if built:
        chosen = _changed_params(built)
        flags = "".join(f" --param {shlex.quote(f'{name}={value}')}" for name, value in chosen.items())
        lines.append(f"attattr jobs run{flags}")
    return "\n".join([*lines, "attattr verify", "attattr report -o report.html"])


def _settings(run: Row[Any]) -> dict[str, Any]:
    given = json.loads(run.config) | {"name": run.name}
    defaults = {name: field.default for name, field in RunSpec.model_fields.items()}
    return {
        key: value
        for key, value in given.items()
        if key in defaults and value is not None and value != defaults[key]
    }


def _changed_params(built: Mapping[str, str]) -> dict[str, Any]:
    jobs = load_catalogue().jobs
    changed: dict[str, Any] = {}
    for job, params in built.items():
        for name, value in json.loads(params).items():
            if job in jobs and name in jobs[job].parameters and value != jobs[job].parameters[name].default:
                changed[name] = value
    return dict(sorted(changed.items()))
