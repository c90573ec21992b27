from __future__ import annotations

import json
from pathlib import Path

import datasets
import duckdb
import pyarrow.parquet as pq
import pytest
from helpers.fabricate import commit, execute, filled_store, new_store, register, registered_store, rows

from attattr_batch.errors import StoreError, UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.opening import log_of
from attattr_batch.store.database.tables import metadata
from attattr_batch.store.reading.export import export_run
from attattr_batch.store.reading.snapshot import snapshot
from attattr_batch.store.writing.passes import seal_pass

FILES = [
    *(
        "README.md",
        "attacked_answers.parquet",
        "attention_peaks.parquet",
        "edges.parquet",
        "examples.parquet",
    ),
    *("head_scores.parquet", "job_builds.parquet", "layer_edges.parquet", "layer_scores.parquet"),
    "ledger.parquet",
    *("masked_answers.parquet", "passes.parquet", "path_scores.parquet"),
    *("predictions.parquet", "quarantine.parquet", "run.json", "target_scores.parquet", "tokens.parquet"),
    "vocabulary.parquet",
]


def test_an_export_holds_the_run_and_only_it(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "second")
    commit(store, pass_id, range(4))
    files = export_run(store, "first", tmp_path / "out" / "first")
    assert [path.name for path in files] == FILES
    heads = duckdb.read_parquet(str(tmp_path / "out" / "first" / "head_scores.parquet"))
    count = "SELECT run_id, target, count(*), sum(attr_max) FROM {} GROUP BY ALL ORDER BY ALL"
    mine = duckdb.execute(count.format("heads")).fetchall()
    assert heads.columns[0] == "run_id"
    assert mine == [row for row in rows(store, count.format("head_scores")) if row[0] == 1]
    run = json.loads((tmp_path / "out" / "first" / "run.json").read_text())
    assert run["run"]["name"] == "first"
    assert run["run"]["labels"] == ["negative", "positive"]
    assert run["run"]["config"] == {"task": "sst2"}


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever the order and size of the chunks, the workers and the times."""
    exports = []
    plans: list[list[list[int]]] = [[[0, 1, 2, 3, 4, 5, 6, 7]], [[7, 2, 5], [0, 1], [6, 4, 3]]]
    for number, chunks in enumerate(plans):
        (tmp_path / str(number)).mkdir()
        store = new_store(tmp_path / str(number))
        _, pass_id = register(store, 8)
        for one in chunks:
            commit(store, pass_id, one)
        execute(store, f"UPDATE ledger SET worker = 'w{number}', chunk = 'c{number}', seconds = {number}")
        seal_pass(store, pass_id)
        exports.append({path.name: path for path in export_run(store, 1, tmp_path / f"out{number}")})
    assert exports[0].keys() == exports[1].keys()
    for name, path in exports[0].items():
        if name != "run.json":
            assert path.read_bytes() == exports[1][name].read_bytes(), name


def test_different_contents_give_different_bytes(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    first = {p.name: p.read_bytes() for p in export_run(store, "first", tmp_path / "a")}
    execute(
        store, "UPDATE head_scores_dedup SET attr_max = attr_max + 1e-3 WHERE example_id = 3 AND head = 1"
    )
    second = {p.name: p.read_bytes() for p in export_run(store, "first", tmp_path / "b")}
    assert {name for name in first if first[name] != second[name]} == {"head_scores.parquet"}


def test_no_wall_clock_or_machine_columns(tmp_path: Path) -> None:
    files = export_run(filled_store(tmp_path), "first", tmp_path / "out")
    volatile = {c.name for t in metadata.tables.values() for c in t.columns if c.info["volatile"]}
    assert {"committed_at", "seconds", "worker", "chunk", "created_at", "failed_at"} <= volatile
    for path in files:
        if path.suffix == ".parquet":
            assert not volatile & set(pq.read_schema(path).names), path.name


def test_the_readme_names_every_column(tmp_path: Path) -> None:
    files = export_run(filled_store(tmp_path), "first", tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    for path in files:
        if path.suffix == ".parquet":
            section = readme.split(f"## {path.name}\n")[1].split("\n## ")[0]
            for column in pq.read_schema(path).names:
                assert f"| {column} | " in section
    assert "| attr_max | FLOAT | Largest (signed) entry of Attr" in readme


def test_tables_that_jobs_made_are_exported_too(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(store, "CREATE TABLE head_ranks AS SELECT unnest([1, 1, 2]) AS run_id, unnest([9, 4, 0]) AS n")
    export_run(store, "first", tmp_path / "out")
    found = duckdb.execute(f"FROM '{tmp_path / 'out' / 'head_ranks.parquet'}'").fetchall()
    assert found == [(1, 4), (1, 9)]


def test_tables_of_pairs_of_runs_are_exported_with_the_run_on_either_side(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(
        store,
        "CREATE TABLE alike AS FROM (VALUES (1, 1, 1.0), (1, 2, 0.5), (2, 1, 0.5), (2, 2, 1.0), (3, 2, 0.1))"
        " AS v (run_a, run_b, pearson)",
        "CREATE TABLE notes AS SELECT 'mine' AS note",
    )
    export_run(store, "first", tmp_path / "out")
    found = duckdb.execute(f"SELECT run_a, run_b FROM '{tmp_path / 'out' / 'alike.parquet'}'").fetchall()
    assert found == [(1, 1), (1, 2), (2, 1)]
    assert not (tmp_path / "out" / "notes.parquet").exists()


def test_a_datasets_folder_has_the_rows_of_the_parquet_files(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(store, "CREATE TABLE job AS SELECT 1 AS run_id, ['a', 'b'] AS words, 2::HUGEINT AS n")
    export_run(store, "first", tmp_path / "parquet")
    export_run(store, "first", tmp_path / "set", "datasets")
    opened = datasets.load_from_disk(tmp_path / "set")
    files = {path.stem: path for path in (tmp_path / "parquet").glob("*.parquet")}
    assert isinstance(opened, datasets.DatasetDict)
    assert set(opened) == set(files) >= {"head_scores", "quarantine", "job"}
    for name, path in files.items():
        assert opened[name].to_list() == pq.read_table(path).to_pylist(), name
    assert len(opened["head_scores"]) == 8 * 2 * 2 * 3
    assert opened["predictions"].features["gold"].names == ["negative", "positive"]
    assert {path.name for path in (tmp_path / "set").iterdir()} == {
        *files,
        *("README.md", "run.json", "dataset_dict.json"),
    }
    readme = (tmp_path / "set" / "README.md").read_text()
    assert "load_from_disk" in readme and "## head_scores\n" in readme
    assert "| attr_max | FLOAT | Largest (signed) entry of Attr" in readme
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "set").rglob("*.json"))


def test_forms_replace_each_other(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    for form in ("datasets", "parquet", "datasets", "datasets"):
        export_run(store, "first", tmp_path / "out", form)
    assert len(datasets.load_from_disk(tmp_path / "out")["predictions"]) == 8
    export_run(store, "first", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    (tmp_path / "out" / "pictures").mkdir()
    with pytest.raises(UserError, match="holds other things"):
        export_run(store, "first", tmp_path / "out", "datasets")


def test_an_export_shows_no_progress_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_run(filled_store(tmp_path), "first", tmp_path / "out", "datasets")
    assert capsys.readouterr() == ("", "")
    assert not datasets.utils.are_progress_bars_disabled()


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(store, "CREATE TABLE head_ranks AS SELECT 1 AS run_id")
    export_run(store, "first", tmp_path / "out")
    execute(store, "DROP TABLE head_ranks")
    assert [path.name for path in export_run(store, "first", tmp_path / "out")] == FILES


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON"])
@pytest.mark.parametrize("present", ["thesis.tex", "data.parquet", "run.json"])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, present: str, content: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / present).write_text(content)
    with pytest.raises(UserError, match="holds other things") as caught:
        export_run(filled_store(tmp_path), "first", folder)
    assert present in str(caught.value)
    assert [path.name for path in folder.iterdir()] == [present]


@pytest.mark.parametrize("name", ["notes.txt", "mine.parquet"])
def test_foreign_files_beside_an_export_are_left_alone(tmp_path: Path, name: str) -> None:
    store = filled_store(tmp_path)
    export_run(store, "first", tmp_path / "out")
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UserError, match="holds other things"):
        export_run(store, "first", tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_an_export_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_run(filled_store(tmp_path), "first", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attattr.duckdb", "out"]


def test_an_export_into_a_file_or_of_no_run(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    with pytest.raises(UserError, match="Not a directory"):
        export_run(store, "first", store.path)
    with pytest.raises(UserError, match="no such run"):
        export_run(store, "fisrt", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["attattr.duckdb"]


def test_a_failed_export_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled_store(tmp_path)

    def fail(*_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr("attattr_batch.store.reading.export._run_document", fail)
    with pytest.raises(UserError, match="cannot be written"):
        export_run(store, "first", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["attattr.duckdb"]


def structure(path: Path) -> list[tuple[object, ...]]:
    tables = "SELECT table_name, has_primary_key, comment FROM duckdb_tables() ORDER BY 1"
    views = "SELECT view_name, comment, sql FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    store = Store(path)
    return rows(store, tables) + rows(store, views)


def test_a_snapshot_is_the_same_store(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    copy = snapshot(store, tmp_path / "it's a copy.duckdb")
    assert structure(copy) == structure(store.path)
    for name in [*metadata.tables, "head_scores", "edge_tokens", "progress"]:
        query = f"SELECT * FROM {name} ORDER BY ALL"
        assert rows(Store(copy), query) == rows(store, query), name
    version = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE path IS NOT NULL"
    assert rows(Store(copy), version) == [("v1.5.0+",)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attattr.duckdb", "it's a copy.duckdb"]


def test_a_snapshot_works_as_a_store(tmp_path: Path) -> None:
    """Keys survive: what was committed before is not newly committed in the copy either."""
    copy = Store(snapshot(filled_store(tmp_path), tmp_path / "copy.duckdb"))
    assert commit(copy, 1, [0, 1]) == []
    _, pass_id = register(copy, 2, "second")
    assert commit(copy, pass_id, [0, 1]) == [0, 1]


def test_a_snapshot_holds_what_is_only_in_the_log(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    register(store, 2, "second")
    assert store.path.with_name("attattr.duckdb.wal").exists()
    copy = Store(snapshot(store, tmp_path / "copy.duckdb"))
    assert rows(copy, "SELECT name FROM runs ORDER BY 1") == [("first",), ("second",)]


def test_an_earlier_snapshot_is_replaced(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    copy = snapshot(store, tmp_path / "copy.duckdb")
    register(store, 2, "second")
    snapshot(store, copy)
    assert rows(Store(copy), "SELECT count(*) FROM runs") == [(2,)]


@pytest.mark.parametrize("gone", [False, True])
def test_a_snapshot_takes_the_place_of_a_store_and_its_log(tmp_path: Path, gone: bool) -> None:
    """A log that stayed would belong to no file, and nobody could open the snapshot."""
    store = filled_store(tmp_path)
    (tmp_path / "target").mkdir()
    target = registered_store(tmp_path / "target")
    commit(target, 1, [0])
    assert log_of(target.path).exists()
    if gone:
        target.path.unlink()
    snapshot(store, target.path)
    assert rows(target, "SELECT count(*) FROM ledger") == [(8,)]


def test_a_snapshot_of_an_earlier_release_is_replaced(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    copy = snapshot(store, tmp_path / "copy.duckdb")
    with duckdb.connect(str(copy)) as earlier:
        earlier.execute("UPDATE attattr_schema SET version_num = '0000'")
    snapshot(store, copy)
    assert rows(Store(copy), "SELECT count(*) FROM ledger") == [(8,)]


def test_a_snapshot_replaces_nothing_else(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="in the way") as caught:
        snapshot(store, tmp_path / "thesis.tex")
    assert "not a DuckDB database" in str(caught.value)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("link", [False, True])
def test_a_snapshot_onto_itself(tmp_path: Path, link: bool) -> None:
    store = filled_store(tmp_path)
    target = tmp_path / "other-name.duckdb" if link else store.path
    if link:
        target.hardlink_to(store.path)
    with pytest.raises(StoreError, match="cannot replace the store"):
        snapshot(store, target)
    assert rows(store, "SELECT count(*) FROM ledger") == [(8,)]


def test_a_snapshot_elsewhere_than_into_a_file(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    with pytest.raises(StoreError, match="a file in a folder that exists"):
        snapshot(store, tmp_path)
    with pytest.raises(StoreError, match="a file in a folder that exists"):
        snapshot(store, tmp_path / "no" / "x.duckdb")
    with pytest.raises(StoreError, match="no database yet"):
        snapshot(Store(tmp_path / "nothing.duckdb"), tmp_path / "x.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["attattr.duckdb"]
