"""The commands that are disturbed, over small stores, and how a store is compared with an undisturbed one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import load_file
from attattr_batch.store.database.tables import metadata
from helpers.points import Conditions, write_next_schema
from helpers.zygote import Ended, Zygote

Contents = Mapping[str, Counter[int]]
"""By table, how often there is a row with this hash."""

EXAMPLES = 24
BUNDLED = ("--model", "bundled", "--data-dir", "bundled", "--limit", str(EXAMPLES), "--batch-tokens", "128")
RUN = ("run", "--task", "sst2", *BUNDLED, "--name", "first", "--db", "{db}", "--quiet")
OTHER_RUN = ("run", "--task", "mrpc", *BUNDLED, "--name", "second", "--db", "{db}", "--quiet")
PARTS = 3
MERGE = ("merge", *(f"{{stores}}/part-{number}.duckdb" for number in range(PARTS)), "--to", "{db}")
JOBS = ("jobs", "run", "head_importance", "pruning_curve", "tree_edges", "--db", "{db}", "--quiet")
SEED_1 = ("--param", "seed=1", "--param", "replicates=5", "--param", "draws=2")
SEED_2 = ("--param", "seed=2", "--param", "replicates=6", "--param", "draws=2")

_COMMIT = "duckdb_sqlalchemy:ConnectionWrapper.commit"
_CHECKPOINT = "attattr_batch.store.database.connection:Store.checkpoint"


@dataclass(frozen=True)
class Place:
    """A function in whose calls a command is ended.

    Attributes:
        what: What the function does, for people.
        target: The function, as `points.Point` takes it.
        calls: How many of its calls there are to choose from.
    """

    what: str
    target: str
    calls: int = 1


@dataclass(frozen=True)
class Scenario:
    """A command over a store, to be disturbed and then given again.

    Attributes:
        name: What it is called in the table.
        base: The store it starts from: `nothing`, or a name in `Bench.stores`.
        arguments: The command; `{db}` and `{folder}` stand for the trial's own, and `{stores}` for the folder
            of the prepared stores.
        places: Where it can be ended.
        newer: Whether it is run by the program with the next schema.
    """

    name: str
    base: str
    arguments: tuple[str, ...]
    places: tuple[Place, ...] = field(default=(), repr=False)
    newer: bool = False


SCENARIOS = (
    Scenario(
        "run into a new file",
        "nothing",
        RUN,
        (
            Place("create the file", "attattr_batch.store.database.opening:duckdb.connect", 2),
            Place("migrate a blank file", "attattr_batch.store.database.migrate:_upgrade"),
            Place("write views", "attattr_batch.store.database.migrate:_refresh"),
            Place("register the run", "attattr_batch.runtime.run:register_run"),
        ),
    ),
    Scenario(
        "run",
        "blank",
        RUN,
        (
            Place("register the run", "attattr_batch.runtime.run:register_run"),
            Place("claim examples", "attattr_batch.store.writing.ingest:_claim", 4),
            Place("insert facts", "attattr_batch.store.writing.ingest:insert_rows", 20),
            Place("commit", _COMMIT, 8),
            Place("commit a chunk", "attattr_batch.runtime.driver:commit_chunks", 4),
            Place("seal", "attattr_batch.runtime.execution:seal_pass"),
            Place("checkpoint", _CHECKPOINT),
            Place("summarise", "attattr_batch.runtime.run:_summarise"),
        ),
    ),
    Scenario(
        "jobs built again",
        "built",
        (*JOBS, *SEED_2),
        (
            Place("write a table aside", "attattr_batch.store.writing.jobs:raw", 60),
            Place("drop the old table", "attattr_batch.store.writing.jobs:_drop", 6),
            Place("put the new one in place", "attattr_batch.store.writing.jobs:replace_table", 6),
            Place("forget the old request", "attattr_batch.analysis.runner:register_requested_pass"),
            Place("commit answers", "attattr_batch.runtime.driver:commit_chunks", 4),
            Place("audit", "attattr_batch.analysis.runner:_Builder._audit", 6),
            Place("log the job", "attattr_batch.store.writing.builds:log_job", 6),
            Place("commit", _COMMIT, 20),
            Place("seal the pass", "attattr_batch.runtime.execution:seal_pass"),
            Place("checkpoint", _CHECKPOINT, 2),
        ),
    ),
    Scenario(
        "merge of parts",
        "blank",
        MERGE,
        (
            Place("merge a part", "attattr_batch.store.writing.merge:_merge_part", PARTS),
            Place("register the run", "attattr_batch.store.writing.merge:register_run", PARTS),
            Place("claim examples", "attattr_batch.store.writing.merge:_claim", PARTS),
            Place("copy facts", "attattr_batch.store.writing.merge:_copy_facts", 7 * PARTS),
            Place("commit", _COMMIT, 8),
            Place("checkpoint", _CHECKPOINT, PARTS),
            Place("seal", "attattr_batch.store.writing.merge:seal_pass"),
        ),
    ),
    Scenario(
        "migration of a filled file",
        "done",
        RUN,
        (
            Place("migrate", "attattr_batch.store.database.migrate:_upgrade"),
            Place("write views", "attattr_batch.store.database.migrate:_refresh"),
            Place("bring up to date", "attattr_batch.store.database.migrate:bring_up_to_date", 2),
            Place("commit", _COMMIT, 6),
        ),
        newer=True,
    ),
    Scenario(
        "snapshot",
        "done",
        ("snapshot", "{folder}/copy.duckdb", "--db", "{db}"),
        (
            Place("copy", "attattr_batch.store.reading.snapshot:_copy"),
            Place("replace", "attattr_batch.store.reading.snapshot:os.replace"),
        ),
    ),
    Scenario(
        "export",
        "built",
        ("export", "first", "--to", "{folder}/export", "--db", "{db}"),
        (
            Place("write a part", "attattr_batch.store.reading.export:_write_part", 8),
            Place("put it in place", "attattr_batch.store.reading.export:os.replace"),
        ),
    ),
    Scenario(
        "rm",
        "built",
        ("rm", "first", "--yes", "--db", "{db}"),
        (
            Place("delete", "attattr_batch.store.writing.runs:delete_run"),
            Place("commit", _COMMIT, 3),
            Place("checkpoint", _CHECKPOINT),
        ),
    ),
)


OTHER = Scenario("another run", "blank", OTHER_RUN)


def scenario(name: str) -> Scenario:
    """The scenario of this name."""
    return next(one for one in SCENARIOS if one.name == name)


class Bench:
    """Prepared stores, undisturbed results, and a zygote to run commands.

    Args:
        folder: A folder of its own.
        zygote: Runs the commands.
    """

    def __init__(self, folder: Path, zygote: Zygote):
        self.folder, self.zygote = folder, zygote
        self._trials = 0
        self.next_schema = str(write_next_schema(folder / "schema"))
        self.stores = {name: folder / f"{name}.duckdb" for name in ("blank", "done", "built")}
        Store(self.stores["blank"], create=True).migrate()
        self._run("done", RUN)
        shutil.copy(self.stores["done"], self.stores["built"])
        self._run("built", (*JOBS, *SEED_1))
        for number in range(PARTS):
            self.stores[f"part-{number}"] = folder / f"part-{number}.duckdb"
            self._run(f"part-{number}", (*RUN, "--part", f"{number}/{PARTS}"))
        self._undisturbed: dict[str, tuple[Path, Ended]] = {}

    def _run(self, name: str, arguments: tuple[str, ...]) -> None:
        ended = self.zygote.run([one.format(db=self.stores[name]) for one in arguments])
        assert ended.code == 0, ended.said

    def new_trial(self, base: str) -> Path:
        """A folder with a copy of the prepared store, as `store.duckdb`."""
        self._trials += 1
        folder = self.folder / f"trial-{self._trials}"
        folder.mkdir()
        if base != "nothing":
            shutil.copy(self.stores[base], folder / "store.duckdb")
        return folder

    def arguments(self, one: Scenario, folder: Path) -> list[str]:
        """The command over the trial's store."""
        names = {"db": folder / "store.duckdb", "folder": folder, "stores": self.folder}
        return [word.format(**names) for word in one.arguments]

    def conditions(self, one: Scenario, **more: object) -> Conditions:
        """The conditions of the scenario's commands."""
        schema = self.next_schema if one.newer else None
        return Conditions(next_schema=schema, **more)  # type: ignore[arg-type]

    def undisturbed(self, one: Scenario) -> tuple[Path, float]:
        """The folder of a trial that nothing disturbed, and the seconds it took."""
        if one.name not in self._undisturbed:
            folder = self.new_trial(one.base)
            ended = self.zygote.run(self.arguments(one, folder), self.conditions(one))
            assert ended.code == 0, ended.said
            self._undisturbed[one.name] = folder, ended
        folder, ended = self._undisturbed[one.name]
        return folder, ended.seconds


def contents(path: Path, run: str | None = None) -> Contents:
    """Counts every row of every table, without columns of times and machines and without the log of jobs.

    Args:
        path: The store.
        run: Count this run alone, without its ids in the store.
    """
    found: dict[str, Counter[int]] = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute(
            "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
            " WHERE table_name IN (SELECT table_name FROM duckdb_tables()) GROUP BY ALL"
        ).fetchall()
        for name, columns in tables:
            # A job that was ended after its commit is logged once more.
            if name == "job_runs" or (run is not None and "run_id" not in columns):
                continue
            left_out = _VOLATILE.get(name, set()) | (set() if run is None else {"run_id", "pass_id"})
            kept = ", ".join(f'"{column}"' for column in columns if column not in left_out)
            where = "key <> 'last_job_run_id'" if name == "meta" else "true"
            if run is not None:
                where = f"run_id = (SELECT run_id FROM runs WHERE name = '{run}')"
            rows = connection.execute(f"SELECT hash({kept}) FROM {name} WHERE {where}").fetchall()
            found[name] = Counter(value for (value,) in rows)
    return found


_VOLATILE = {
    table.name: {column.name for column in table.columns if column.info["volatile"]}
    for table in metadata.tables.values()
}


def files(folder: Path) -> dict[str, bytes]:
    """An export's files, without the one that holds times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def is_whole(path: Path) -> bool:
    """Whether a store that was left in the middle of something holds only whole examples."""
    if not path.exists():
        return True
    audit = load_file(data_folder("jobs") / "audits" / "ledger_and_facts.sql").query
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if "ledger" not in tables:  # the first migration was undone
            return not tables
        return connection.execute(audit).fetchall() == []
