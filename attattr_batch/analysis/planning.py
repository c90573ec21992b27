"""What a request builds: the jobs asked for, what they are built from, and what was built from those.

What a store holds of a run belongs together: where a job is built with other parameters than before, the
tables and answers that came from its earlier rows are built again too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from attattr_batch.analysis.jobs import Catalogue, Job, read_parameters
from attattr_batch.store.builds import Build

log = logging.getLogger(__name__)

Plan = list[tuple[Job, dict[str, Any]]]
Builds = Mapping[str, Mapping[str, Sequence[Build]]]


def plan_jobs(
    catalogue: Catalogue, names: Sequence[str], given: Mapping[str, str], runs: Sequence[str], builds: Builds
) -> Plan:
    """The jobs to build, in order, each with the values of its parameters.

    These are the jobs asked for, with the values given, else the defaults; those they depend on, with the
    values given, else those of their latest build; and those that were built from what changes, with the
    values of their latest build.

    Args:
        catalogue: All jobs.
        names: Jobs asked for; empty for every one.
        given: Values of parameters as text, for the jobs asked for and those they depend on.
        runs: Names of the runs to build for.
        builds: Past builds, the latest last, by the job's name and the run's.

    Raises:
        UserError: an unknown job or parameter, or a wrong value.
    """
    asked = catalogue.with_dependencies(names)
    values = read_parameters(asked, given)
    for job in asked:
        if names and job.name not in names:
            kept = _kept(job, runs, builds)
            values[job.name] |= {
                name: value
                for name, value in kept.items()
                if name not in given and f"{job.name}.{name}" not in given
            }
    plan: Plan = []
    causes: dict[str, str] = {}
    added = []
    for job in catalogue.jobs.values():
        cause = _cause(job, values.get(job.name), causes, runs, builds)
        if job.name in values:
            plan.append((job, values[job.name]))
        elif cause is not None:
            plan.append((job, read_parameters([job], {})[job.name] | _kept(job, runs, builds)))
            added.append(job.name)
        if cause is not None:
            causes[job.name] = cause
    if added:
        changed = ", ".join(dict.fromkeys(causes[name] for name in added))
        log.warning("also built, because %s changes: %s", changed, ", ".join(added))
    return plan


def _kept(job: Job, runs: Sequence[str], builds: Builds) -> dict[str, Any]:
    """Values of the job's latest build for one of the runs; for any run, if there is none."""
    by_run = builds.get(job.name, {})
    of_runs = [by_run[run] for run in runs if run in by_run] or list(by_run.values())
    if not of_runs:
        return {}
    params = max((past[-1] for past in of_runs), key=lambda build: build.number).params
    return {name: params[name] for name in job.parameters if name in params}


def _cause(
    job: Job,
    values: Mapping[str, Any] | None,
    causes: Mapping[str, str],
    runs: Sequence[str],
    builds: Builds,
) -> str | None:
    """The job whose parameters make this one, built before, another one now; None if it stays the same.

    Args:
        job: The job.
        values: Its parameters in this request; None if it is not asked for.
        causes: The same of the jobs before it that do not stay the same.
        runs: Names of the runs.
        builds: Past builds.
    """
    for run in runs:
        past = builds.get(job.name, {}).get(run)
        if past is None:
            continue
        before = past[-1]
        if values is not None and values != before.params:
            return job.name
        for needed in job.file.depends:
            if needed in causes:
                return causes[needed]
            others = builds.get(needed, {}).get(run, ())
            used = [other.params for other in others if other.number < before.number]
            # An earlier request changed that one, and did not get as far as this job.
            if used and used[-1] != others[-1].params:
                return needed
    return None
