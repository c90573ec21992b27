"""Every table of the store, as SQLAlchemy Core; the comments are the data dictionary.

Facts have no key and no index: with one, DuckDB would be four times slower and the file 80 % larger. Their
key columns are in `table.info["key"]`, and audits check that they are unique.

A table whose name ends in `_dedup` stores each number once. Its column `target` is `gold`, `predicted`, or
`both` where the two classes coincide and one row stands for either. The view of the same name without the
suffix (schema/views) has such a row under each target; people query the view.

`table.info["written_by"]` says who adds rows: "register" (a run's data), "chunk" (a worker's results, one
transaction per chunk) or "store" (bookkeeping). A column with `info["volatile"]` holds wall-clock or machine
facts and is left out of exports.

Keys aside, no table has a column of the same name as one of `runs`, so that
`head_scores JOIN runs USING (run_id)` needs no aliases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table

from attattr_batch.store.database.columns import arrow_type
from attattr_batch.store.database.columns import metadata as metadata
from attattr_batch.store.database.fact_tables import attacked_answers as attacked_answers
from attattr_batch.store.database.fact_tables import masked_answers as masked_answers
from attattr_batch.store.database.fact_tables import path_scores as path_scores
from attattr_batch.store.database.run_tables import examples as examples
from attattr_batch.store.database.run_tables import job_builds as job_builds
from attattr_batch.store.database.run_tables import job_runs as job_runs
from attattr_batch.store.database.run_tables import ledger as ledger
from attattr_batch.store.database.run_tables import meta as meta
from attattr_batch.store.database.run_tables import passes as passes
from attattr_batch.store.database.run_tables import quarantine as quarantine
from attattr_batch.store.database.run_tables import runs as runs
from attattr_batch.store.database.run_tables import tokens as tokens
from attattr_batch.store.database.run_tables import vocabulary as vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

DEDUP_SUFFIX = "_dedup"


def query_name(table: Table) -> str:
    """Name under which people query the table: the view's for a `_dedup` table, else its own."""
    return table.name.removesuffix(DEDUP_SUFFIX)


def tables_written_by(writer: str) -> dict[str, Table]:
    """Tables whose rows come from `writer` ("register", "chunk" or "store"), by query name."""
    return {
        query_name(table): table for table in metadata.tables.values() if table.info["written_by"] == writer
    }


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow schema of a table's rows: column order, narrow types, nullability."""
    import pyarrow as pa  # not above: see `arrow_type`

    return pa.schema(
        [pa.field(one.name, arrow_type(one.type), nullable=bool(one.nullable)) for one in table.columns]
    )
