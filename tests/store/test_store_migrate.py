from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from helpers.fabricate import INTEGRITY, contents, execute, filled_store, new_store, register, rows
from helpers.older_stores import TO_0002, TO_0004
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from attattr_batch.cli.main import run_command_line
from attattr_batch.errors import StoreError
from attattr_batch.files import data_folder
from attattr_batch.store.database import migrate
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import metadata
from attattr_batch.store.writing.builds import JobRun, log_job, record_builds
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples

HEAD = migrate.SCHEMA_VERSION
NEXT = f"{int(HEAD) + 1:04}"
NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{next}"
down_revision = "{head}"


def upgrade() -> None:
    op.create_table("later", sa.Column("run_id", sa.Integer(), nullable=False))
    op.add_column("ledger", sa.Column("host", sa.String()))
    {last}
"""


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(data_folder("schema")))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def test_the_program_knows_the_newest_migration() -> None:
    assert revisions()[0] == migrate.SCHEMA_VERSION


@pytest.mark.parametrize("start", ["blank", *revisions()])
def test_every_version_becomes_what_the_tables_say(tmp_path: Path, start: str) -> None:
    store = Store(tmp_path / "old.duckdb", create=True)
    if start != "blank":
        with create_engine(f"duckdb:///{store.path}", poolclass=NullPool).begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(data_folder("schema")))
            config.attributes["connection"] = connection
            command.upgrade(config, start)
    store.migrate()
    options = {"compare_type": True, "compare_server_default": True, "version_table": migrate.VERSION_TABLE}
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    assert rows(store, f"SELECT * FROM {migrate.VERSION_TABLE}") == [(migrate.SCHEMA_VERSION,)]
    assert rows(store, "SELECT count(*) FROM head_scores") == [(0,)]


def test_a_new_file_can_be_read_by_duckdb_1_5(tmp_path: Path) -> None:
    store = Store(tmp_path / "new.duckdb", create=True)
    store.migrate()
    found = rows(store, "SELECT tags['storage_version'] FROM duckdb_databases() WHERE path IS NOT NULL")
    assert found == [("v1.5.0+",)]


def test_the_log_is_in_the_file_after_a_migration(tmp_path: Path) -> None:
    Store(tmp_path / "new.duckdb", create=True).migrate()
    assert [path.name for path in tmp_path.iterdir()] == ["new.duckdb"]


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    before = store.path.read_bytes()
    store.migrate()
    assert store.path.read_bytes() == before


@pytest.fixture
def newer_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This program as it will be one migration later; returns its schema folder."""
    (tmp_path / "template").mkdir()
    filled_store(tmp_path / "template")  # stores are copies of one made at first use: of today's program
    folder = tmp_path / "schema"
    shutil.copytree(data_folder("schema"), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{NEXT}_later.py").write_text(
        NEXT_MIGRATION.format(last="pass", head=HEAD, next=NEXT)
    )
    monkeypatch.setattr(migrate, "SCHEMA_VERSION", NEXT)
    monkeypatch.setattr(migrate, "data_folder", lambda name: folder)
    return folder


def test_an_older_file_is_migrated_by_the_next_writer(tmp_path: Path, newer_program: Path) -> None:
    store = filled_store(tmp_path)
    with pytest.raises(StoreError, match="older version") as caught, store.read():
        pass
    assert f"schema {HEAD}" in str(caught.value)
    assert f"attattr migrate --db {store.path}" in str(caught.value)
    assert run_command_line(["migrate", "--db", str(store.path)]) == 0
    assert rows(store, "SELECT count(*), count(host) FROM ledger") == [(8, 0)]
    assert rows(store, "SELECT count(*) FROM later") == [(0,)]


def older(store: Store, *statements: str) -> None:
    """Changes a store behind the program's back; the views, which are of today, go."""
    with duckdb.connect(str(store.path)) as connection:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        for statement in (*(f"DROP VIEW {name}" for (name,) in views), *statements):
            connection.execute(statement)


def test_an_older_store_is_copied_as_it_is_and_migrated_by_jobs(tmp_path: Path) -> None:
    """The example of `attattr migrate`, and what its help says of `jobs run`."""
    store, copy = filled_store(tmp_path), tmp_path / "before.duckdb"
    older(store, *TO_0004, *TO_0002)
    assert run_command_line(["snapshot", str(copy), "--db", str(store.path)]) == 0
    assert run_command_line(["jobs", "run", "splits", "--db", str(store.path)]) == 0
    assert rows(store, f"FROM {migrate.VERSION_TABLE}") == [(HEAD,)]
    assert rows(store, "SELECT count(*) FROM splits") == [(16,)]
    unknown = "SELECT count(*) > 0, count(taylor_released) FROM head_scores"
    assert rows(store, unknown) == [(True, 0)]
    assert rows(store, "SELECT uncertified FROM run_summary") == [(0,)]
    with pytest.raises(StoreError, match="schema 0002"), Store(copy).read():
        pass
    assert run_command_line(["migrate", "--db", str(copy)]) == 0
    assert rows(Store(copy), f"SELECT run_id, committed, ok FROM {INTEGRITY}") == [(1, 8, True)]


def test_renamed_columns_keep_what_they_held(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "second", targets="gold", fixed_nodes=5)
    quarantine_examples(store, pass_id, [QuarantinedExample(example_id=3, error="ValueError", message="no")])
    with store.write() as connection:
        log_job(connection, JobRun("splits", {}, ["first"], datetime.now(UTC)), rows=8)
        record_builds(connection, "splits", {}, {1: ""})
    execute(store, "UPDATE runs SET seals = NULL")
    for emptied in ("UPDATE tokens SET word = NULL", "UPDATE head_scores_dedup SET grad_attn = NULL"):
        execute(store, emptied)
    execute(store, "DELETE FROM attention_peaks")
    before = contents(store)
    older(store, *TO_0004)
    store.migrate()
    assert contents(store) == before


MASKED = [
    # job, mask -> criterion, direction, draw, step, layer, head
    (("pruned_accuracy", "random/17/10"), ("random", None, 17, 10, None, None)),
    (("pruned_accuracy", "taylor/0/0"), ("taylor", None, 0, 0, None, None)),
    (("layerwise_accuracy", "attattr/largest_first/12"), ("attattr", "largest_first", None, 12, None, None)),
    (("head_ablation", "clean"), (None, None, None, None, None, None)),
    (("head_ablation", "3/11"), (None, None, None, None, 3, 11)),
    (("mine", "no heads/7"), ("no heads/7", None, None, None, None, None)),
]
ATTACKED = [
    # job, attack -> pattern, control, draw
    (("trigger_selection", "1000003/pattern"), (3, False, None)),
    (("trigger_report", "1000003/control/19"), (3, True, 19)),
    # Example 2000007, whose millions count 10^15 each.
    (("trigger_report", "2000000001000007/control/0"), (2000007, True, 0)),
    (("mine", "first"), (0, False, None)),
    (("mine", "second/control"), (1, False, None)),
]


def test_stored_answers_say_in_columns_what_was_asked(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    older(
        store,
        *TO_0004,
        *(
            f"INSERT INTO mask_outcomes VALUES (1, '{job}', {number}, '{mask}', 1, 0.25)"
            for number, ((job, mask), _) in enumerate(MASKED)
        ),
        *(
            f"INSERT INTO attack_outcomes VALUES (1, '{job}', {number}, '{attack}', 0, NULL, true)"
            for number, ((job, attack), _) in enumerate(ATTACKED)
        ),
        "INSERT INTO passes SELECT * REPLACE (2 AS pass_id, 'masked_accuracy' AS kind) FROM passes",
        "INSERT INTO passes SELECT * REPLACE (3 AS pass_id, 'attack' AS kind) FROM passes WHERE pass_id = 1",
    )
    assert run_command_line(["migrate", "--db", str(store.path)]) == 0
    assert rows(store, "FROM masked_answers ORDER BY ALL") == sorted(
        (1, job, number, *mask, 1, 0.25, None, None) for number, ((job, _), mask) in enumerate(MASKED)
    )
    assert rows(store, "FROM attacked_answers ORDER BY ALL") == sorted(
        (1, job, number, *attack, 0, None, True, None) for number, ((job, _), attack) in enumerate(ATTACKED)
    )
    kinds = [(1, "attribute"), (2, "masked_answers"), (3, "attacked_answers")]
    assert rows(store, "SELECT pass_id, kind FROM passes ORDER BY ALL") == kinds
    tables = {name for (name,) in rows(store, "SELECT table_name FROM duckdb_tables()")}
    assert not tables & {"mask_outcomes", "attack_outcomes", "failures", "edges_stored"}


def test_tables_of_jobs_about_triggers_are_upgraded_too(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    numbers = "(VALUES (1, 1000003::BIGINT), (1, 2000000001000007), (2, 2000000)) AS t(run_id, pattern_id)"
    older(
        store,
        *TO_0004,
        "CREATE VIEW head_values AS FROM mask_outcomes",
        f"CREATE TABLE trigger_choice AS SELECT run_id, 'drop' AS ranking, pattern_id FROM {numbers}",
        f"CREATE TABLE trigger_attacks AS SELECT pattern_id, run_id, 0 AS gold FROM {numbers}",
        f"CREATE TABLE trigger_effects AS SELECT run_id, pattern_id, 0.5 AS pattern FROM {numbers}",
        "CREATE TABLE trigger_patterns AS SELECT pattern_id, run_id, 3 AS source_example_id"
        f" FROM {numbers} LIMIT 1",
        "COMMENT ON COLUMN trigger_effects.pattern IS 'Share.'",
    )
    store.migrate()
    patterns = [(1, 3), (1, 2000007), (2, 0)]
    for table in ("trigger_choice", "trigger_attacks", "trigger_effects"):
        assert rows(store, f"SELECT run_id, pattern FROM {table} ORDER BY ALL") == patterns, table
    assert rows(store, "SELECT DISTINCT inserted FROM trigger_effects") == [(0.5,)]
    assert rows(store, "FROM trigger_patterns") == [(1, 3)]
    assert rows(store, "SELECT count(*) FROM duckdb_views() WHERE view_name = 'head_values'") == [(0,)]


def test_jobs_leave_an_empty_database_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    duckdb.connect(tmp_path / "blank.duckdb").close()
    before = (tmp_path / "blank.duckdb").read_bytes()
    assert run_command_line(["jobs", "run", "--db", str(tmp_path / "blank.duckdb")]) == 2
    assert "the database is empty" in capsys.readouterr().err
    assert (tmp_path / "blank.duckdb").read_bytes() == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, newer_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(tmp_path)
    failing = NEXT_MIGRATION.format(last='raise RuntimeError("half way")', head=HEAD, next=NEXT)
    (newer_program / "versions" / f"{NEXT}_later.py").write_text(failing)
    with pytest.raises(RuntimeError, match="half way"):
        store.migrate()
    monkeypatch.setattr(migrate, "SCHEMA_VERSION", HEAD)
    assert rows(store, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'later'") == [(0,)]
    assert rows(store, "SELECT count(*) FROM ledger") == [(8,)]


def test_a_newer_file_is_refused_by_readers_and_writers(
    tmp_path: Path, newer_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    store.migrate()
    monkeypatch.undo()
    for opened in (store.read, store.write):
        with pytest.raises(StoreError, match="newer version") as caught, opened():
            pass
        assert f"schema {NEXT}" in str(caught.value)
        assert f"schema up to {HEAD}" in str(caught.value)
        assert "upgrade attattr_batch" in str(caught.value)


def test_changed_views_and_comments_reach_an_existing_file(
    tmp_path: Path, newer_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "SCHEMA_VERSION", HEAD)
    (newer_program / "versions" / f"{NEXT}_later.py").unlink()
    store = filled_store(tmp_path)
    views = newer_program / "views"
    (views / "progress.sql").unlink()
    (views / "answer.sql").write_text("-- name: answer\n-- description: It's new.\nSELECT 42 AS n\n")
    monkeypatch.setattr(metadata.tables["ledger"], "comment", "It's changed.")
    execute(store, 'CREATE VIEW "my own" AS SELECT 1')
    store.migrate()
    assert rows(store, "SELECT n FROM answer") == [(42,)]
    assert rows(store, 'FROM "my own"') == [(1,)]
    names = "SELECT view_name, comment FROM duckdb_views() WHERE view_name IN ('answer', 'progress')"
    assert rows(store, names) == [("answer", "It's new.")]
    comments = "SELECT comment FROM duckdb_tables() WHERE table_name = 'ledger'"
    assert rows(store, comments) == [("It's changed.",)]
