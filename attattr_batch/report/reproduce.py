"""How to make a store's results again: the spec of its runs and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import Catalogue, load_catalogue
from attattr_batch.analysis.parameters import value_text
from attattr_batch.spec import RunSpec
from attattr_batch.store.writing.builds import present_builds
from attattr_batch.store.writing.runs import list_runs


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

    Runs whose jobs were built with other parameters have a line of their own. Jobs of a folder of one's own
    are left out: the package does not know them.
    """
    catalogue, builds = load_catalogue(), present_builds(connection)
    groups: list[tuple[dict[str, Mapping[str, Any]], list[str]]] = []
    for run in list_runs(connection):
        built = {job: builds[job, run.run_id].params for job in catalogue.jobs if (job, run.run_id) in builds}
        alike = next((names for one, names in groups if one == built), None)
        if alike is None:
            groups.append((built, [run.name]))
        else:
            alike.append(run.name)
    lines = ["attattr run runs.yaml"]
    for built, names in groups:
        if built:
            lines.append(_jobs_command(catalogue, built, names if len(groups) > 1 else []))
    return "\n".join([*lines, "attattr verify", "attattr report -o report.html"])


def _jobs_command(catalogue: Catalogue, built: Mapping[str, Mapping[str, Any]], runs: Sequence[str]) -> str:
    """The command that builds these jobs with these parameters, for the named runs or, if none, for all."""
    params = [f"{name}={value}" for name, value in _changed(catalogue, built).items()]
    flags = [f"--param {shlex.quote(param)}" for param in params]
    flags += [f"--run {shlex.quote(run)}" for run in runs]
    return " ".join(["attattr jobs run", *_asked(catalogue, built), *flags])


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
