"""How to make a store's results again: the spec of its runs and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from sqlalchemy import Connection, Row, text

from attattr_batch.analysis.jobs import Catalogue, load_catalogue
from attattr_batch.analysis.parameters import value_text
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
    """The commands after the spec is saved as `runs.yaml`, with every parameter that was not the default.

    Jobs of a folder of one's own are left out: the package does not know them.
    """
    lines = ["attattr run runs.yaml"]
    catalogue = load_catalogue()
    built = {
        job: json.loads(params)
        for job, params in connection.execute(text("SELECT job, params FROM built_jobs")).all()
        if job in catalogue.jobs
    }
    if built:
        flags = [
            f"--param {shlex.quote(f'{name}={value}')}" for name, value in _changed(catalogue, built).items()
        ]
        lines.append(" ".join(["attattr jobs run", *_asked(catalogue, built), *flags]))
    return "\n".join([*lines, "attattr verify", "attattr report -o report.html"])


def _settings(run: Row[Any]) -> dict[str, Any]:
    given = json.loads(run.config) | {"name": run.name}
    defaults = {name: field.default for name, field in RunSpec.model_fields.items()}
    return {
        key: value
        for key, value in given.items()
        if key in defaults and value is not None and value != defaults[key]
    }


def _asked(catalogue: Catalogue, built: Collection[str]) -> list[str]:
    """Jobs to name so that those built, and no others, are built; none if all are."""
    if set(built) == set(catalogue.jobs):
        return []
    needed = {name for job in built for name in catalogue.jobs[job].file.depends}
    return [name for name in catalogue.jobs if name in built and name not in needed]


def _changed(catalogue: Catalogue, built: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Values that are not the defaults: by `NAME` where all jobs built share one, else `JOB.NAME`."""
    changed: dict[str, str] = {}
    of_name: dict[str, dict[str, str]] = {}
    for job, params in built.items():
        for name in catalogue.jobs[job].parameters.keys() & params.keys():
            of_name.setdefault(name, {})[job] = value_text(params[name])
    for name, values in sorted(of_name.items()):
        defaults = {job: catalogue.jobs[job].parameters[name].default_text for job in values}
        if values != defaults and len(set(values.values())) == 1:
            changed[name] = next(iter(values.values()))
        else:
            changed |= {f"{job}.{name}": value for job, value in values.items() if value != defaults[job]}
    return changed
