"""The reference of jobs (jobs/README.md), made from their headers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy import Connection

from attattr_batch.analysis.catalogue import Catalogue, Job, load_catalogue
from attattr_batch.store.database.connection import Store
from attattr_batch.store.reading.data_dictionary import described, markdown_table, meaning
from attattr_batch.store.writing.jobs import make_temporary, prepare

_INTRODUCTION = """\
# Jobs

Generated from the headers of `jobs/sql/*.sql` by `make docs`; `make check` keeps it up to date.

`attattr jobs run` builds every job, in this order; `attattr jobs run NAME` builds one and those it
depends on, and, where these change, again what was built from them before. A table is built for every
finished run. A requested pass has workers compute answers of the model, which are kept in `masked_answers`,
`attacked_answers` or `path_scores` and computed again only if the request changes. Layers and heads count
from 0; labels are the dataset's integer ids (names in `runs.labels`).

How to write a job of your own: CONTRIBUTING.md.
"""


def reference_markdown() -> str:
    """The whole document."""
    catalogue = load_catalogue()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "blank.duckdb", create=True)
        with store.write() as connection:
            prepare(connection, [])
            sections = [_section(connection, catalogue, job) for job in catalogue.jobs.values()]
    return "\n".join([_INTRODUCTION, *sections])


def _section(connection: Connection, catalogue: Catalogue, job: Job) -> str:
    name = job.table
    kind = f"Requested pass, answers in `{name}`" if job.is_pass else job.materialized.capitalize()
    lines = [f"## {job.name}\n", f"{job.file.description}\n"]
    lines.append(f"{kind}; one row per {job.file.fields.get('grain', 'row of the query')}.\n")
    if job.file.depends:
        lines.append(f"Built from {', '.join(f'`{name}`' for name in job.file.depends)}.\n")
    if job.target is not None:
        lines.append(f"Of runs that attribute the {job.target} class (`--target both`, or `{job.target}`).\n")
    if job.parameters:
        parameters = [
            (one.name, f"{one.values}; default {one.default_text}", one.meaning)
            for one in job.parameters.values()
        ]
        lines.append(markdown_table(parameters).replace("| column | type |", "| parameter | type |"))
    if not job.is_pass:
        make_temporary(connection, job.materialized, job.name, job.file.query, job.defaults)
    columns = [
        (column, type_, job.file.columns.get(column) or meaning(name, column))
        for column, type_, _ in described(connection, name)
    ]
    lines.append(markdown_table(columns))
    if job.audits:
        audits = [f"*{name}*: {catalogue.audits[name].description}" for name in job.audits]
        lines.append(f"Audits: {' '.join(audits)}\n")
    return "\n".join(lines)
