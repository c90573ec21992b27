"""Decides which jobs a request builds: those asked for, those they depend on, and those built from them.

What a store holds of a run belongs together. So each build of a job for a run is recorded with a key, the
hash of all that it was made of: query, parameters, the run's seal counter and the keys of the builds that it
depends on. Below a job asked for, whatever would now have another key is built again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from attattr_batch.analysis.catalogue import Catalogue, Job, read_parameters
from attattr_batch.analysis.parameters import value_text
from attattr_batch.errors import UserError
from attattr_batch.store.writing.builds import Build

log = logging.getLogger(__name__)

Builds = Mapping[tuple[str, int], Build]
LastValues = Sequence[tuple[Row[Any], dict[str, Any]]]


@dataclass(frozen=True)
class Step:
    """One job to build.

    Attributes:
        job: The job.
        values: Values of its parameters.
        runs: The runs to build it for, as rows of `runs`.
    """

    job: Job
    values: Mapping[str, Any]
    runs: Sequence[Row[Any]]

    @property
    def run_ids(self) -> list[int]:
        """Ids of the runs."""
        return [run.run_id for run in self.runs]


def steps_to_build(
    catalogue: Catalogue,
    names: Sequence[str],
    given: Mapping[str, str],
    runs: Sequence[Row[Any]],
    builds: Builds,
) -> list[Step]:
    """Lists the jobs to build, in order.

    1. The jobs asked for, with the values given, else the defaults.
    2. The jobs those depend on, with the values given, else those that the runs were last built with, else
       the defaults.
    3. Jobs that were built before from any of these, directly or not, for the runs for which their build key
       would now be another, with the values that those were last built with.

    Args:
        catalogue: All jobs.
        names: Jobs asked for; empty for every one.
        given: Values of parameters as text, for the jobs asked for and those they depend on.
        runs: The runs to build for, as rows of `runs`.
        builds: The present builds, by job and run id.

    Raises:
        UserError: an unknown job or parameter, a wrong value, or no value given where the runs were last
            built with different ones.
    """
    asked = catalogue.with_dependencies(names)
    values = read_parameters(asked, given)
    for job in asked:
        if names and job.name not in names:
            free = [name for name in job.parameters if not given.keys() & {name, f"{job.name}.{name}"}]
            values[job.name] |= _agreed(job, free, _last_values(job, free, runs, builds))
    keys = {of: build.key for of, build in builds.items()}
    affected = set(values)
    steps: list[Step] = []
    for job in catalogue.jobs.values():
        if job.name in values:
            step = Step(job, values[job.name], runs)
        elif affected.intersection(job.file.depends):
            affected.add(job.name)
            step = _follow(job, runs, builds, keys)
        else:
            continue
        keys |= {(job.name, run.run_id): job.build_key(step.values, run, keys) for run in step.runs}
        steps += [step] if step.runs else []
    also = [_described(step, runs) for step in steps if step.job.name not in values]
    if also:
        log.warning("also built, because what they are built from changes: %s", ", ".join(also))
    return steps


def _follow(job: Job, runs: Sequence[Row[Any]], builds: Builds, keys: Mapping[tuple[str, int], str]) -> Step:
    """The job for those of the runs whose build would now have another key."""
    last = _last_values(job, list(job.parameters), runs, builds)
    behind = [
        (run, values)
        for run, values in last
        if job.build_key(values, run, keys) != builds[job.name, run.run_id].key
    ]
    return Step(job, _agreed(job, list(job.parameters), behind), [run for run, _ in behind])


def _last_values(job: Job, names: Sequence[str], runs: Sequence[Row[Any]], builds: Builds) -> LastValues:
    """The values that each run was last built with; runs that the job was not built for are left out."""
    return [
        (run, _still_allowed(job, names, builds[job.name, run.run_id].params))
        for run in runs
        if (job.name, run.run_id) in builds
    ]


def _still_allowed(job: Job, names: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a build, which an earlier release may have made; the default where one is not allowed."""
    values = {name: job.parameters[name].default for name in names}
    for name in values.keys() & params.keys():
        try:
            values[name] = job.parameters[name].read(value_text(params[name]))
        except UserError as error:
            log.warning("%s takes the default of %s: %s", job.name, name, error)
    return values


def _agreed(job: Job, names: Sequence[str], last: LastValues) -> dict[str, Any]:
    """The values that all of the runs were last built with; none if the job was built for none of them."""
    for name in names:
        by_run = {run.name: value_text(values[name]) for run, values in last}
        if len(set(by_run.values())) > 1:
            raise UserError(
                f"the runs were last built with different values of {job.name}.{name}",
                got=", ".join(f"{value} for {run}" for run, value in by_run.items()),
                hint=f"name {job.name} too, with a value for all of them (--param {job.name}.{name}=...),"
                " or build the runs one by one (--run)",
            )
    return last[0][1] if last else {}


def _described(step: Step, runs: Sequence[Row[Any]]) -> str:
    of = ", ".join(run.name for run in step.runs)
    return f"{step.job.name} (of {of})" if len(step.runs) < len(runs) else step.job.name
