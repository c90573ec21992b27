"""Merging: puts the parts of a run (`--part`) into one store, every example exactly once.

Without its key `part`, the identity of a part is that of the whole run. So the merged run is the one that
`attattr run` without `--part` makes, and that command finishes it where parts are missing. Each part is one
transaction, in which the ledger decides, as it does for chunks (see `ingest`): an example that is there stays
as it is, and only what is new is copied. A merge that was interrupted may therefore be given again.

What jobs have made of a part is not copied: they are built for the whole run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row, Table, select

from attattr_batch.errors import StoreError, UserError
from attattr_batch.identity import run_key, whole_identity
from attattr_batch.store.database.connection import Store, arrow_result, arrow_rows, raw
from attattr_batch.store.database.tables import ledger, passes, quarantine, tables_written_by
from attattr_batch.store.writing.passes import (
    count_examples,
    pass_examples,
    pending_ids,
    register_pass,
    release,
    reopen_pass,
    seal_pass,
)
from attattr_batch.store.writing.runs import (
    INPUTS_KEY,
    JSON_COLUMNS,
    count_registered,
    default_name,
    find_run,
    free_name,
    list_runs,
    register_run,
)

_CLAIM = """
INSERT INTO ledger BY NAME
SELECT * REPLACE (?::INTEGER AS pass_id, ?::INTEGER AS run_id) FROM given_rows
ON CONFLICT DO NOTHING
RETURNING example_id
"""

_QUARANTINE = """
INSERT INTO quarantine BY NAME
SELECT * REPLACE (?::INTEGER AS pass_id, ?::INTEGER AS run_id) FROM given_rows
WHERE example_id NOT IN (SELECT example_id FROM ledger WHERE pass_id = ?)
ON CONFLICT DO NOTHING
"""

_FACTS = """
INSERT INTO {table} BY NAME
SELECT * REPLACE (?::INTEGER AS run_id) FROM given_rows SEMI JOIN new_examples USING (example_id)
"""

_OF_REGISTRATION = ("run_id", "status", "created_at", "sealed_at", "seals")
"""Columns of `runs` that every store gives itself."""


@dataclass(frozen=True)
class Part:
    """A part of a run, in a store of its own.

    Attributes:
        store: The store.
        run: Its row of `runs` there.
        identity: Its identity.
    """

    store: Store
    run: Row[Any]
    identity: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """Which part it is, for example `1/3`."""
        return str(self.identity["part"]["part"])

    @property
    def of(self) -> int:
        """Into how many parts the run was cut."""
        return int(self.name.partition("/")[2])

    @property
    def n_examples(self) -> int:
        """Examples of the whole run."""
        return int(self.identity["part"]["n_examples"])

    @property
    def whole_key(self) -> str:
        """Run key of the whole run."""
        return run_key(whole_identity(dict(self.identity)))


@dataclass(frozen=True)
class Merged:
    """The state of the whole run after a merge.

    Attributes:
        run_id: Its number in the store.
        name: Its name.
        n_examples: Its examples.
        committed: Examples committed, by this merge or earlier.
        quarantined: Examples that failed every attempt.
        newly_committed: Examples that this merge committed, for each part that was given.
        missing: Examples that are neither committed nor quarantined, by their part: `{"1/3": 20}`.
    """

    run_id: int
    name: str
    n_examples: int
    committed: int
    quarantined: int
    newly_committed: list[int]
    missing: dict[str, int]


def find_parts(stores: Sequence[Store]) -> list[Part]:
    """The parts in these stores, which must all be of one run.

    Raises:
        UserError: a store has a run that is no part, or no run at all; or the parts are of different runs.
        StoreError: a store cannot be read.
    """
    parts = [part for store in stores for part in _parts_in(store)]
    first = parts[0]
    for other in parts[1:]:
        if other.whole_key != first.whole_key:
            names = sorted(whole_identity(dict(first.identity)).keys() | whole_identity(dict(other.identity)))
            differing = [name for name in names if first.identity.get(name) != other.identity.get(name)]
            raise UserError(
                "these are parts of different runs, and nothing was merged",
                got=f"{first.store.path} and {other.store.path} differ in {', '.join(differing)}",
                allowed="parts that differ in --part alone",
                hint="merge the parts of each run with a command of its own",
            )
    return parts


def _parts_in(store: Store) -> list[Part]:
    with store.read() as connection:
        found = [Part(store, run, json.loads(run.identity)) for run in list_runs(connection)]
    for part in found:
        if "part" not in part.identity:
            raise UserError(
                "the store has a run that is no part of one",
                got=f"run {part.run.name} in {store.path}",
                hint="give stores that `attattr run --part K/N` filled, and nothing else did",
            )
        if run_key(dict(part.identity)) != part.run.run_key:
            raise UserError(
                "the part was made by a release of attattr_batch whose numbers mean something else",
                got=f"run {part.run.name} in {store.path}",
                hint="make the part again with this release",
            )
    if not found:
        raise UserError(
            "the store has no part of a run", got=store.path, hint="`attattr run --part` makes it"
        )
    return found


def merge_parts(parts: Sequence[Part], target: Store) -> Merged:
    """Puts parts of one run into a store, and seals the whole run if all its examples are there.

    Args:
        parts: From `find_parts`.
        target: The store; must be allowed to create the file.

    Raises:
        UserError: the target still waits for parts of another run; nothing was merged.
        StoreError: a store cannot be read or written. Parts merged before that stay.
    """
    target.migrate()
    target = target.patient()
    newly = [_merge_part(part, target) for part in parts]
    with target.read() as connection:
        run = find_run(connection, parts[0].whole_key)
        if run is None:
            raise StoreError("the run was deleted while it was merged", got=target.path)
        pass_id = _attribution_pass(connection, run.run_id)
        committed, quarantined = (count_examples(connection, one, pass_id) for one in (ledger, quarantine))
        of = max(part.of for part in parts)
        missing = Counter(one % of for one in pending_ids(connection, pass_id, range(run.n_examples)))
    if not missing:
        seal_pass(target, pass_id)
    by_part = {f"{number}/{of}": missing[number] for number in sorted(missing)}
    return Merged(run.run_id, run.name, run.n_examples, committed, quarantined, newly, by_part)


def _merge_part(part: Part, target: Store) -> int:
    """Merges one part in one transaction; returns how many examples are new."""
    with part.store.patient().read() as source, target.write() as connection:
        own = find_run(source, part.run.run_key)
        if own is None:
            raise StoreError("the part was deleted while it was merged", got=part.store.path)
        _check_target(connection, part, target)
        run_id = register_run(connection, _record(connection, part), _run_data(source, own))
        n_examples, key = part.n_examples, part.whole_key
        pass_id = register_pass(connection, run_id, "attribute", key, {}, n_examples)
        own_pass = _attribution_pass(source, own.run_id)
        new = _claim(source, own_pass, connection, (pass_id, run_id))
        if new.num_rows:
            reopen_pass(connection, pass_id)
            with arrow_rows(connection, "new_examples", new):
                for table in tables_written_by("chunk").values():
                    if "job" not in table.columns:
                        _copy_facts(source, own.run_id, connection, run_id, table)
            release(connection, pass_id, pass_examples(connection, quarantine, pass_id) & set(_ids(new)))
        with arrow_rows(connection, "given_rows", _rows(source, quarantine, own_pass)):
            raw(connection).execute(_QUARANTINE, [pass_id, run_id, pass_id])
    target.checkpoint()
    return int(new.num_rows)


def _check_target(connection: Connection, part: Part, target: Store) -> None:
    """Refuses a store that waits for parts of another run: parts of two runs were mixed up."""
    for run in list_runs(connection):
        registered = count_registered(connection, run.run_id)
        if run.run_key != part.whole_key and registered < run.n_examples:
            raise UserError(
                "the store still waits for parts of another run, and this is none of them",
                got=f"{part.store.path}; run {run.name} in {target.path} has {registered} of {run.n_examples}"
                " examples",
                hint="merge the other run's parts first, delete it with `attattr rm`, or give another --to",
            )


def _record(connection: Connection, part: Part) -> dict[str, Any]:
    """Values of the whole run by column of `runs`."""
    values = {name: one for name, one in part.run._mapping.items() if name not in _OF_REGISTRATION}
    values |= {column: json.loads(values[column]) for column in JSON_COLUMNS}
    values["config"]["part"] = None
    values["provenance"].pop(INPUTS_KEY, None)  # of the part
    name = values["config"]["name"] or default_name(part.run.task, part.run.model)
    return values | {
        "name": free_name(connection, name, part.whole_key),
        "run_key": part.whole_key,
        "n_examples": part.n_examples,
        "identity": whole_identity(values["identity"]),
    }


def _run_data(source: Connection, run: Row[Any]) -> dict[str, pa.Table]:
    """The part's rows of `examples`, `tokens` and `vocabulary`, as `register_run` takes them."""
    keys = {"examples": "run_id", "tokens": "run_id", "vocabulary": "tokenizer_key"}
    return {
        name: arrow_result(
            source, f"SELECT * EXCLUDE ({key}) FROM {name} WHERE {key} = ?", [run._mapping[key]]
        )
        for name, key in keys.items()
    }


def _attribution_pass(connection: Connection, run_id: int) -> int:
    query = select(passes.c.pass_id).where(passes.c.run_id == run_id, passes.c.kind == "attribute")
    return int(connection.execute(query).scalar_one())


def _rows(source: Connection, table: Table, pass_id: int) -> pa.Table:
    return arrow_result(source, f"SELECT * FROM {table.name} WHERE pass_id = ?", [pass_id])


def _claim(source: Connection, own_pass: int, connection: Connection, ids: tuple[int, int]) -> pa.Table:
    """Enters the part's examples into the ledger, under these ids of pass and run; returns the new ones."""
    with arrow_rows(connection, "given_rows", _rows(source, ledger, own_pass)):
        return arrow_result(connection, _CLAIM, ids)


def _copy_facts(source: Connection, own_run: int, connection: Connection, run_id: int, table: Table) -> None:
    """Copies a table's rows of the new examples, batch by batch: a part may be larger than the memory."""
    query = f"SELECT * FROM {table.name} WHERE run_id = ?"
    batches = raw(source).sql(query, params=[own_run]).to_arrow_reader()
    with arrow_rows(connection, "given_rows", batches):
        raw(connection).execute(_FACTS.format(table=table.name), [run_id])


def _ids(rows: pa.Table) -> list[int]:
    return list(rows["example_id"].to_pylist())
