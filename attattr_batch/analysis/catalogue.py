"""Jobs: SQL files that build a table or view of the store, or order a pass (see CONTRIBUTING.md).

The header says what else is needed beside name, description, grain and depends:

    -- materialized: table | view | masked_answers | attacked_answers
    -- audits: names of files in the `audits` folder; they run before the result is kept
    -- target: gold | predicted, if it reads attributions of that class: other runs have no rows in it
    -- labels: needed, if it takes rows with a gold label: runs without any have no rows in it
    -- agree: columns of `runs` in which runs must be equal to be compared
    -- param NAME: TYPE = DEFAULT; meaning      (TYPE: see analysis/parameters.py)

A query reads the runs it is for from `selected_runs` (rows of `runs`: SEMI JOIN it unless you want their
columns), and a parameter as `$NAME`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sqlalchemy import Row

from attattr_batch.analysis.parameters import Parameter, declared_parameter
from attattr_batch.choices import RowTarget
from attattr_batch.errors import UserError, did_you_mean, unknown_name
from attattr_batch.files import data_folder
from attattr_batch.store.database.migrate import view_files
from attattr_batch.store.database.sqlfile import SqlFile, check_folder, in_order, load_folder
from attattr_batch.store.database.tables import metadata, query_name

Materialized = Literal["table", "view", "masked_answers", "attacked_answers"]

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
        labels: Whether it takes rows with a gold label alone.
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
        """Name of the job, and of the table or view it makes."""
        return self.file.name

    @property
    def query_key(self) -> str:
        """Hash of its query, without the header."""
        return hashlib.sha256(self.file.query.encode()).hexdigest()

    @property
    def is_pass(self) -> bool:
        """Whether the job orders a pass."""
        return self.materialized in ("masked_answers", "attacked_answers")

    def without_rows(self, runs: Iterable[Row[Any]], unlabelled: Sequence[str] = ()) -> str | None:
        """Says which of the runs (rows of `runs`) have no rows in it, and why; None if all have.

        What is built from this job alone has none of them either. `unlabelled`: the runs without gold labels.
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
    """All jobs there are, in an order in which they can be built, and all audits.

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
    files = _merge(file for sql, _ in places for file in load_folder(sql))
    audits = _merge(file for _, checks in places for file in load_folder(checks))
    known = {query_name(table) for table in metadata.tables.values()} | {view.name for view in view_files()}
    for name in known & set(files):
        raise UserError("a job has the name of a table of the store", got=f"{files[name].path}: {name}")
    jobs = {file.name: _job(file, audits) for file in in_order(files.values())}
    for job in jobs.values():
        for needed in job.file.depends:
            if needed not in known | set(jobs):
                hint = did_you_mean(needed, known | set(jobs))
                raise UserError(
                    "a job depends on something unknown", got=f"{job.file.path}: {needed}", hint=hint
                )
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
        values[job.name] = {
            name: one.default if (text := texts[name]) is None else one.read(text)
            for name, one in job.parameters.items()
        }
    return values


def _merge(files: Iterable[SqlFile]) -> dict[str, SqlFile]:
    merged: dict[str, SqlFile] = {}
    for file in files:
        if file.name in merged:
            got = f"{file.path} and {merged[file.name].path}"
            raise UserError("two files have one name", got=got, hint="rename yours")
        merged[file.name] = file
    return merged


def _job(file: SqlFile, audits: Mapping[str, SqlFile]) -> Job:
    kinds = get_args(Materialized)
    kind = file.fields.get("materialized", "")
    if kind not in kinds:
        raise UserError(
            "the header lacks `-- materialized: ...`", got=f"{file.path}: {kind}", allowed=", ".join(kinds)
        )
    if not _IDENTIFIER.fullmatch(file.name):
        raise UserError("a job's name must be lower case letters, digits and _", got=file.path)
    names = tuple(file.fields.get("audits", "").replace(",", " ").split())
    for name in names:
        if name not in audits:
            raise UserError(
                f"job {file.name} names an audit that does not exist",
                got=name,
                hint=did_you_mean(name, audits),
            )
    parameters = {name: declared_parameter(file, name, text) for name, text in file.params.items()}
    used = set(_USED.findall(_COMMENT_OR_TEXT.sub("", file.query)))
    if used != set(parameters):
        wrong = ", ".join(f"${name}" for name in sorted(used ^ set(parameters)))
        raise UserError("a job's query and its `-- param` lines differ", got=f"{file.path}: {wrong}")
    if kind == "view" and parameters:
        raise UserError("a view takes no parameters", got=file.path, hint="materialize it as a table")
    target = file.fields.get("target")
    if target not in (None, *get_args(RowTarget)):
        raise UserError("a job's target is unknown", got=f"{file.path}: {target}", allowed="gold, predicted")
    labels = file.fields.get("labels")
    if labels not in (None, "needed"):
        raise UserError(
            "what a job says of labels is unknown", got=f"{file.path}: {labels}", allowed="needed"
        )
    return Job(
        file=file,
        materialized=cast(Materialized, kind),
        parameters=parameters,
        target=cast(RowTarget | None, target),
        labels=labels is not None,
        audits=names,
        agree=tuple(file.fields.get("agree", "").split()),
    )
