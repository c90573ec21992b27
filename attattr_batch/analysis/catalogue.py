"""Jobs: SQL files that make a table or view, or that request a pass of the model (see CONTRIBUTING.md).

Beside name, description, grain and depends, a header says:

    -- materialized: table | view | masked_answers | attacked_answers | path_scores
    -- audits: names of files in the `audits` folder; they run before the result is kept
    -- target: gold | predicted, if it reads attributions of that class: other runs have no rows in it
    -- labels: needed, if it takes rows with a gold label: runs without any have no rows in it
    -- agree: columns of `runs` in which runs must be equal to be compared
    -- param NAME: TYPE = DEFAULT; meaning      (TYPE: see analysis/parameters.py)

A query reads the runs it is for from `selected_runs` (rows of `runs`: SEMI JOIN it unless you want their
columns), and a parameter as `$NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from sqlalchemy import Row

from attattr_batch.analysis.parameters import Parameter, declared_parameter
from attattr_batch.choices import RowTarget
from attattr_batch.errors import UserError, did_you_mean, unknown_name
from attattr_batch.files import data_folder
from attattr_batch.identity import content_key
from attattr_batch.store.database.migrate import view_files
from attattr_batch.store.database.sqlfile import SqlFile, check_folder, in_order, load_folder
from attattr_batch.store.database.tables import metadata, query_name

if TYPE_CHECKING:  # `attattr jobs list` needs neither pyarrow nor numpy
    from attattr_batch.store.writing.passes import PassKind

Materialized = Literal["table", "view", "masked_answers", "attacked_answers", "path_scores"]

# What a header may say; None: it need not say anything.
_WORDS: dict[str, tuple[str | None, ...]] = {
    "materialized": get_args(Materialized),
    "target": (*get_args(RowTarget), None),
    "labels": ("needed", None),
}

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_USED = re.compile(r"\$([a-z_][a-z0-9_]*)")
_COMMENT_OR_TEXT = re.compile(r"--[^\n]*|'(?:[^']|'')*'")


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        file: Its SQL file.
        materialized: What it makes: a table, a view, or a pass of that kind.
        parameters: Its parameters, by name.
        target: Class whose attributions it reads, if it is always the same.
        labels: Whether it takes only rows with a gold label.
        audits: Names of the audits its result must pass.
        agree: Columns of `runs` in which runs must be equal to be compared.
    """

    file: SqlFile
    materialized: Materialized
    parameters: Mapping[str, Parameter]
    target: RowTarget | None
    labels: bool
    audits: tuple[str, ...]
    agree: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the job, and of the table or view it makes, if it makes one."""
        return self.file.name

    @property
    def is_pass(self) -> bool:
        """Whether the job requests a pass of the model."""
        return self.materialized not in ("table", "view")

    @property
    def pass_kind(self) -> PassKind:
        """Kind of the pass that the job requests."""
        return cast("PassKind", self.materialized)

    @property
    def optional(self) -> list[str]:
        """Names of the parameters whose value `none` asks nothing of the model, if it requests a pass."""
        return [name for name, one in self.parameters.items() if self.is_pass and one.allows_none]

    @property
    def table(self) -> str:
        """Name of the table or view that holds what it makes."""
        return self.materialized if self.is_pass else self.name

    @property
    def defaults(self) -> dict[str, Any]:
        """Default of every parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def build_key(self, values: Mapping[str, Any], run: Row[Any], keys: Mapping[tuple[str, int], str]) -> str:
        """Hash of all that the job's rows of a run are built from.

        Args:
            values: Values of its parameters.
            run: The run, as a row of `runs`.
            keys: Build keys of other jobs, by job and run id.
        """
        inputs = {name: keys.get((name, run.run_id)) for name in self.file.depends}
        return content_key({"query": self.file.query, "params": values, "seals": run.seals, "inputs": inputs})

    def without_rows(self, runs: Iterable[Row[Any]], unlabelled: Sequence[str] = ()) -> str | None:
        """Says which of the runs (rows of `runs`) have no rows in the job, and why; None if all have.

        These runs have no rows either in what is built from this job alone.

        Args:
            runs: The runs.
            unlabelled: Names of those without gold labels.
        """
        if self.labels and unlabelled:
            return f"{self.name} takes rows with a gold label, which these runs lack: {', '.join(unlabelled)}"
        lacking = [
            run for run in runs if self.target is not None and run.targets not in (self.target, "both")
        ]
        if not lacking:
            return None
        names = ", ".join(f"{run.name} (targets {run.targets})" for run in lacking)
        return f"{self.name} reads attributions of the {self.target} class, which these runs lack: {names}"


@dataclass(frozen=True)
class Catalogue:
    """All jobs, in an order in which they can be built, and all audits.

    Attributes:
        jobs: Jobs by name.
        audits: Audits by name.
    """

    jobs: Mapping[str, Job]
    audits: Mapping[str, SqlFile]

    def job(self, name: str) -> Job:
        """The job of this name.

        Raises:
            UserError: there is none; names the nearest.
        """
        if name not in self.jobs:
            raise unknown_name("job", name, self.jobs)
        return self.jobs[name]

    def with_dependencies(self, names: Sequence[str]) -> list[Job]:
        """The named jobs and all that they depend on, in order; no names: every job.

        Raises:
            UserError: there is no such job.
        """
        wanted, left = set(), [self.job(name).name for name in names or self.jobs]
        while left:
            name = left.pop()
            if name in self.jobs and name not in wanted:
                wanted.add(name)
                left += self.jobs[name].file.depends
        return [job for name, job in self.jobs.items() if name in wanted]


def load_catalogue(folder: Path | None = None) -> Catalogue:
    """Reads the package's jobs and audits, and those of a user's folder (`*.sql` and `audits/*.sql`).

    Raises:
        UserError: a file cannot be used, names collide, a dependency is unknown, or there is a circle.
    """
    ours = data_folder("jobs")
    places = [(ours / "sql", ours / "audits")]
    if folder is not None:
        check_folder(folder, "jobs")
        places.append((folder, folder / "audits"))
    files = _by_name(file for sql, _ in places for file in load_folder(sql))
    audits = _by_name(file for _, checks in places for file in load_folder(checks))
    known = {query_name(table) for table in metadata.tables.values()} | {view.name for view in view_files()}
    for name in known & set(files):
        raise UserError("a job has the name of a table of the store", got=f"{files[name].path}: {name}")
    jobs = {file.name: _job(file, audits) for file in in_order(files.values())}
    known |= set(jobs)
    for job in jobs.values():
        for name in job.file.depends:
            if name not in known:
                got, hint = f"{job.file.path}: {name}", did_you_mean(name, known)
                raise UserError("a job depends on something unknown", got=got, hint=hint)
    return Catalogue(jobs, audits)


def read_parameters(jobs: Sequence[Job], given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Values of every job's parameters: those given, else the defaults.

    Args:
        jobs: The jobs to be built.
        given: Values as text: of `NAME`, for each job that has a parameter of the name, or of `JOB.NAME`, for
            that job alone.

    Raises:
        UserError: no job has such a parameter, or a value is not one that it may have.
    """
    known = {name for job in jobs for name in job.parameters}
    of_one_job = {f"{job.name}.{name}" for job in jobs for name in job.parameters}
    for name in given:
        if name not in known | of_one_job:
            raise unknown_name("parameter of these jobs", name, of_one_job if "." in name else known)
    values: dict[str, dict[str, Any]] = {}
    for job in jobs:
        texts = {name: given.get(f"{job.name}.{name}", given.get(name)) for name in job.parameters}
        read = {name: job.parameters[name].read(text) for name, text in texts.items() if text is not None}
        values[job.name] = job.defaults | read
    return values


def _by_name(files: Iterable[SqlFile]) -> dict[str, SqlFile]:
    found: dict[str, SqlFile] = {}
    for file in files:
        if file.name in found:
            got = f"{file.path} and {found[file.name].path}"
            raise UserError("two files have one name", got=got, hint="rename yours")
        found[file.name] = file
    return found


def _job(file: SqlFile, audits: Mapping[str, SqlFile]) -> Job:
    for field, words in _WORDS.items():
        word = file.fields.get(field)
        if word not in words:
            allowed = ", ".join(filter(None, words))
            raise UserError(
                f"a job's header needs `-- {field}: ...`", got=f"{file.path}: {word}", allowed=allowed
            )
    if not _IDENTIFIER.fullmatch(file.name):
        raise UserError("a job's name must be lower case letters, digits and _", got=file.path)
    names = tuple(file.fields.get("audits", "").replace(",", " ").split())
    for name in names:
        if name not in audits:
            message = f"job {file.name} names an audit that does not exist"
            raise UserError(message, got=name, hint=did_you_mean(name, audits))
    parameters = {name: declared_parameter(file, name, text) for name, text in file.params.items()}
    used = set(_USED.findall(_COMMENT_OR_TEXT.sub("", file.query)))
    if used != set(parameters):
        wrong = ", ".join(f"${name}" for name in sorted(used ^ set(parameters)))
        raise UserError("a job's query and its `-- param` lines differ", got=f"{file.path}: {wrong}")
    kind = cast(Materialized, file.fields["materialized"])
    if kind == "view" and parameters:
        raise UserError("a view takes no parameters", got=file.path, hint="materialize it as a table")
    return Job(
        file=file,
        materialized=kind,
        parameters=parameters,
        target=cast(RowTarget | None, file.fields.get("target")),
        labels="labels" in file.fields,
        audits=names,
        agree=tuple(file.fields.get("agree", "").split()),
    )
