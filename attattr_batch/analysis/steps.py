"""What a request builds: the jobs asked for, what they are built from, and what was built from those.

What a store holds of a run belongs together: where a job is built with other parameters than before, the
tables and answers that came from its earlier rows are built again too; the same where its query is another,
or the run's examples are. What something was built of is its lineage: query, parameters, whether of the
examples that the run has now, and the lineages of what it was built from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attattr_batch.analysis.catalogue import Catalogue, Job, read_parameters
from attattr_batch.analysis.parameters import value_text
from attattr_batch.errors import UserError
from attattr_batch.store.writing.builds import Build

log = logging.getLogger(__name__)

Builds = Mapping[str, Mapping[str, Sequence[Build]]]


@dataclass(frozen=True)
class Step:
    """A job to build.

    Attributes:
        job: The job.
        values: Values of its parameters.
        runs: Names of the runs to build it for.
    """

    job: Job
    values: Mapping[str, Any]
    runs: Sequence[str]


@dataclass(frozen=True)
class Lineage:
    """What a job's rows of one run are made of.

    Attributes:
        query_key: Hash of the job's query; None if that was not kept.
        params: The job's parameters.
        needed: Lineages of the jobs it depends on, by name; None for what no build is known of.
        current: Whether they are made of the examples that the run has now.
    """

    query_key: str | None
    params: Mapping[str, Any]
    needed: Mapping[str, Lineage | None]
    current: bool = True


def steps_to_build(
    catalogue: Catalogue, names: Sequence[str], given: Mapping[str, str], runs: Sequence[str], builds: Builds
) -> list[Step]:
    """The jobs to build, in order.

    These are the jobs asked for, with the values given, else the defaults; those they depend on, with the
    values given, else those that the runs were last built with, else the defaults; and those that were built
    from what changes, for the runs they were built for, with the values that they were last built with.

    Args:
        catalogue: All jobs.
        names: Jobs asked for; empty for every one.
        given: Values of parameters as text, for the jobs asked for and those they depend on.
        runs: Names of the runs to build for.
        builds: Past builds, the latest last, by the job's name and the run's.

    Raises:
        UserError: an unknown job or parameter, a wrong value, or none given where the runs were last built
            with different ones.
    """
    asked = catalogue.with_dependencies(names)
    values = read_parameters(asked, given)
    past = _Past(catalogue, builds)
    for job in asked:
        if names and job.name not in names:
            free = [name for name in job.parameters if not given.keys() & {name, f"{job.name}.{name}"}]
            values[job.name] |= past.kept(job, free, runs)
    steps: list[Step] = []
    changes = _Changes(past)
    added: dict[str, str] = {}
    for job in catalogue.jobs.values():
        causes = changes.causes(job, values.get(job.name), runs)
        step = None
        if job.name in values:
            step = Step(job, values[job.name], runs)
        elif causes:
            kept = read_parameters([job], {})[job.name] | past.kept(job, list(job.parameters), list(causes))
            step = Step(job, kept, list(causes))
            of = f" (of {', '.join(causes)})" if len(causes) < len(runs) else ""
            added[f"{job.name}{of}"] = next(iter(causes.values()))
        steps += [step] if step is not None else []
        changes.follow(job, step, runs)
    if added:
        changed = ", ".join(dict.fromkeys(added.values()))
        log.warning("also built, because %s changes: %s", changed, ", ".join(added))
    return steps


class _Changes:
    """What jobs will be of after a request; `follow` is told of every job, in order."""

    def __init__(self, past: _Past):
        self._past = past
        self._causes: dict[tuple[str, str], str] = {}
        self._future: dict[tuple[str, str], Lineage | None] = {}

    def causes(self, job: Job, values: Mapping[str, Any] | None, runs: Sequence[str]) -> dict[str, str]:
        """Runs for which a job becomes another than it was built as; for each, the job that makes it so.

        Args:
            job: The job.
            values: Its parameters in this request; None if it is not asked for.
            runs: Names of the runs.
        """
        found = {run: self._cause(job, values, run) for run in runs}
        causes = {run: cause for run, cause in found.items() if cause is not None}
        self._causes |= {(job.name, run): cause for run, cause in causes.items()}
        return causes

    def _cause(self, job: Job, values: Mapping[str, Any] | None, run: str) -> str | None:
        for before in self._past.latest(job, run):
            built = (before.query_key, before.params, before.current)
            if values is not None and built != (job.query_key, values, True):
                return job.name
            for needed in job.file.depends:
                lineage = self._past.lineage(needed, run, before.number)
                # It may differ by an earlier request, which did not get as far as this job.
                if lineage is not None and lineage != self._future[needed, run]:
                    return self._causes.get((needed, run), needed)
        return None

    def follow(self, job: Job, step: Step | None, runs: Sequence[str]) -> None:
        """Takes down what a job's rows will be of: of its step, or as they are."""
        for run in runs:
            if step is None or run not in step.runs:
                self._future[job.name, run] = self._past.lineage(job.name, run)
            else:
                depends = [name for name in job.file.depends if (name, run) in self._future]
                needed = {name: self._future[name, run] for name in depends}
                self._future[job.name, run] = Lineage(job.query_key, step.values, needed)


class _Past:
    """What was built, and of what."""

    def __init__(self, catalogue: Catalogue, builds: Builds):
        self._jobs = catalogue.jobs
        self._builds = builds
        self._known: dict[tuple[str, str, int], Lineage] = {}

    def latest(self, job: Job, run: str) -> Iterator[Build]:
        """The builds that a run's present rows are of, in order: its latest one.

        Rows about two runs are also of later builds for the other one.
        """
        by_run = self._builds.get(job.name, {})
        own = by_run.get(run, ())[-1:]
        yield from own
        if job.agree:
            number = own[0].number if own else 0
            others = {past[-1].number: past[-1] for past in by_run.values() if past[-1].number > number}
            yield from (others[number] for number in sorted(others))

    def lineage(self, name: str, run: str, before: int | None = None) -> Lineage | None:
        """What a job's rows of a run were of when the build of number `before` began; None: are of."""
        if name not in self._jobs:
            return None
        past = self._builds.get(name, {}).get(run, ())
        build = next((one for one in reversed(past) if before is None or one.number < before), None)
        if build is None:
            return None
        key = name, run, build.number
        if key not in self._known:
            depends = (needed for needed in self._jobs[name].file.depends if needed in self._jobs)
            needed = {one: self.lineage(one, run, build.number) for one in depends}
            self._known[key] = Lineage(build.query_key, build.params, needed, build.current)
        return self._known[key]

    def kept(self, job: Job, names: Sequence[str], runs: Sequence[str]) -> dict[str, Any]:
        """Values of some of a job's parameters that the runs were last built with.

        Raises:
            UserError: they differ between the runs.
        """
        found: dict[str, dict[str, Any]] = {}
        for run in runs:
            *_, build = [None, *self.latest(job, run)]
            if build is not None:
                found[run] = _still_allowed(job, names, build)
        values = next(iter(found.values()), {})
        for name in names:
            by_run = {run: value_text(each.get(name)) for run, each in found.items()}
            if len(set(by_run.values())) > 1:
                raise UserError(
                    f"the runs were last built with different values of {job.name}.{name}",
                    got=", ".join(f"{value} for {run}" for run, value in by_run.items()),
                    hint=f"name {job.name} too, with a value for all of them (--param {job.name}.{name}=...),"
                    " or build the runs one by one (--run)",
                )
        return values


def _still_allowed(job: Job, names: Sequence[str], build: Build) -> dict[str, Any]:
    """Values of a build that its parameters, perhaps of a later release, still may have."""
    values: dict[str, Any] = {}
    for name in names:
        if name in build.params:
            try:
                values[name] = job.parameters[name].read(value_text(build.params[name]))
            except UserError as error:
                log.warning("%s takes the default of %s: %s", job.name, name, error)
    return values
