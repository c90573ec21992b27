"""How to make a store's results again: the spec of its runs and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import yaml
from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.analysis.parameters import value_text
from attattr_batch.spec import RUN_KEYS
from attattr_batch.store.database.connection import arrow_result


def run_spec_yaml(runs: Sequence[Row[Any]]) -> str:
    """A run spec that asks for the same runs: `attattr run` takes it.

    Args:
        runs: Rows of `runs`. Their folders are written as they were given.
    """
    defaults = {name: field.default for name, field in RUN_KEYS.items()}
    settings = [
        {
            key: value
            for key, value in (json.loads(run.config) | {"name": run.name}).items()
            if key in defaults and value not in (None, defaults[key])
        }
        for run in runs
    ]
    return yaml.safe_dump({"runs": settings}, sort_keys=False, allow_unicode=True, width=10_000)


def commands(connection: Connection) -> str:
    """The commands after the spec is saved as `runs.yaml`.

    The jobs are those whose latest build stands in the store, each with those of its parameters that were not
    the defaults. Jobs of a folder of one's own are left out: the package does not know them.
    """
    known = load_catalogue().jobs
    builds = arrow_result(connection, "SELECT job, params FROM built_jobs ORDER BY job").to_pylist()
    built = {row["job"]: json.loads(row["params"]) for row in builds if row["job"] in known}
    words = ["attattr", "jobs", "run", *(built if len(built) < len(known) else [])]
    for job, params in built.items():
        for name, value in params.items():
            declared = known[job].parameters.get(name)
            if declared is not None and value_text(value) != declared.default_text:
                words += ["--param", f"{job}.{name}={value_text(value)}"]
    lines = ["attattr run runs.yaml", shlex.join(words), "attattr verify", "attattr report -o report.html"]
    return "\n".join(lines if built else [lines[0], *lines[2:]])
