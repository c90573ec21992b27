"""The dictionary of jobs (jobs/README.md), generated from their headers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection

from attattr_batch.analysis.catalogue import Catalogue, Job, load_catalogue
from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store, arrow_result
from attattr_batch.store.reading.data_dictionary import markdown_table, meaning
from attattr_batch.store.writing import jobs as built

_INTRODUCTION = """\
# Jobs

Generated from the headers of `jobs/sql/*.sql` by `make docs`; `make check` keeps it up to date.

`attattr jobs run` builds every job, in this order; `attattr jobs run NAME` builds one and those it
depends on, and, where a parameter changes, again those that were built from it. A table is built for every
finished run. An ordered pass has workers compute answers of the model, which are kept in `masked_answers` or
`attacked_answers` and computed again only if the order changes. Layers and heads count from 0; labels are the
dataset's integer ids (names in `runs.labels`).

How to write a job of your own: CONTRIBUTING.md.
"""


def dictionary_markdown() -> str:
    """The whole dictionary as Markdown."""
    catalogue = load_catalogue()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "blank.duckdb", create=True)
        with store.write() as connection:
            built.prepare(connection, [])
            sections = [_section(connection, catalogue, job) for job in catalogue.jobs.values()]
    return "\n".join([_INTRODUCTION, *sections])


def _section(connection: Connection, catalogue: Catalogue, job: Job) -> str:
    values = {one.name: one.default for one in job.parameters.values()}
    kind = (
        f"ordered pass, answers in `{built.ANSWERS[job.materialized].name}`"
        if job.is_pass
        else job.materialized
    )
    lines = [f"## {job.name}\n", f"{job.file.description}\n"]
    lines.append(f"{kind.capitalize()}; one row per {job.file.fields.get('grain', 'row of the query')}.\n")
    if job.file.depends:
        lines.append(f"Built from {', '.join(f'`{name}`' for name in job.file.depends)}.\n")
    if job.target is not None:
        lines.append(f"Of runs that attribute the {job.target} class (`--target both`, or `{job.target}`).\n")
    if job.parameters:
        rows = [
            (one.name, f"{one.values}; default {one.default_text}", one.meaning)
            for one in job.parameters.values()
        ]
        lines.append(markdown_table(rows).replace("| column | type |", "| parameter | type |"))
    lines.append(markdown_table(_columns(connection, job, values)))
    if job.audits:
        lines.append(
            "Audits: "
            + " ".join(f"*{name}*: {catalogue.audits[name].description}" for name in job.audits)
            + "\n"
        )
    return "\n".join(lines)


def _columns(connection: Connection, job: Job, values: Mapping[str, object]) -> list[tuple[str, str, str]]:
    if job.materialized == "view":
        built.replace_view(connection, job.name, job.file.query)
    elif job.materialized == "table":
        built.replace_table(connection, job.name, job.file.query, values, [])
    name = built.ANSWERS[job.materialized].name if job.is_pass else job.name
    described = arrow_result(
        connection, f"SELECT column_name, column_type FROM (DESCRIBE {name})"
    ).to_pylist()
    rows = []
    for one in described:
        column = one["column_name"]
        says = job.file.columns.get(column)
        rows.append((column, one["column_type"], says or meaning(name, column)))
    unknown = set(job.file.columns) - {column for column, _, _ in rows}
    if unknown:
        raise UserError("a job describes a column that it does not make", got=f"{job.name}.{min(unknown)}")
    return rows
