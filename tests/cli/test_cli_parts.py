"""Parts of a run (`--part`), each in a store of its own, and what puts them together (`attattr merge`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.calling import Cli, contains
from helpers.fabricate import execute
from helpers.toy import rows_of

from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import tables_written_by

N = 10
PARTS = 3


class Toy:
    """Commands over a toy model and its data, each store by its name in one folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str], model: Path, data: Path, folder: Path):
        self._cli = Cli(capsys, folder / "none.duckdb")
        self.folder = folder
        self._run = ["run", "--task", "sst2", "--model", model, "--data-dir", data, "--limit", N]

    def db(self, name: str) -> Path:
        return self.folder / f"{name}.duckdb"

    def run(self, db: str, *more: object) -> str:
        answer = self._cli.bare(*self._run, *more, "--db", self.db(db))
        assert answer.code == 0, answer.err
        return answer.err

    def part(self, number: int, of: int = PARTS) -> Path:
        self.run(f"p{number}", "--part", f"{number}/{of}")
        return self.db(f"p{number}")

    def whole(self) -> Path:
        self.run("whole")
        return self.db("whole")

    def refuses(self, *arguments: object) -> str:
        answer = self._cli.bare(*arguments)
        assert answer.code == 2, answer
        return answer.err

    def refuses_run(self, *more: object) -> str:
        message = self.refuses(*self._run, *more, "--db", self.db("refused"))
        assert not self.db("refused").exists()
        return message

    def __call__(self, *arguments: object, code: int = 0) -> str:
        answer = self._cli.bare(*arguments)
        assert answer.code == code, answer
        return answer.out + answer.err


@pytest.fixture
def toy(capsys: pytest.CaptureFixture[str], model: Path, data: Path, tmp_path: Path) -> Toy:
    return Toy(capsys, model, data, tmp_path)


# Parts


def test_parts_have_every_example_once_under_its_own_id(toy: Toy) -> None:
    texts = dict(rows_of(toy.whole(), "SELECT example_id, text_a FROM examples"))
    found: dict[int, str] = {}
    for number in range(PARTS):
        db = toy.part(number)
        part = dict(
            rows_of(db, "SELECT example_id, text_a FROM examples SEMI JOIN ledger USING (example_id)")
        )
        assert list(part) == list(range(number, N, PARTS))
        assert rows_of(db, "SELECT name, n_examples, status FROM runs") == [
            (f"sst2-toy-part-{number}-of-3", len(part), "sealed")
        ]
        found |= part
        toy("verify", "--db", db)
    assert found == texts


def test_the_same_part_again_is_recognised_and_another_is_another_run(toy: Toy) -> None:
    toy.part(1)
    assert "complete, nothing to do; 3 of 3 examples" in toy.run("p1", "--part", "1/3")
    toy.run("p1", "--part", "2/3")
    toy.run("p1")
    assert rows_of(toy.db("p1"), "SELECT name, n_examples FROM runs ORDER BY run_id") == [
        ("sst2-toy-part-1-of-3", 3),
        ("sst2-toy-part-2-of-3", 3),
        ("sst2-toy", N),
    ]


def forget(db: Path, example_id: int) -> None:
    """Leaves a store of one run as if it had been interrupted before this example."""
    facts = ("ledger", *(table.name for table in tables_written_by("chunk").values()))
    execute(
        Store(db),
        *(f"DELETE FROM {name} WHERE example_id = {example_id}" for name in facts),
        "UPDATE runs SET status = 'running'",
        "UPDATE passes SET pass_status = 'running'",
    )


def test_a_part_that_was_interrupted_goes_on(toy: Toy) -> None:
    db = toy.part(1)
    forget(db, 4)
    assert "resumed; 3 of 3 examples" in toy.run("p1", "--part", "1/3")
    toy("verify", "--db", db)


@pytest.mark.parametrize("part", ["3/3", "0/0", "-1/3", "1", "1/2/3", "one/3", "01/3", "0/9999999", ""])
def test_bad_parts(toy: Toy, part: str) -> None:
    message = toy.refuses_run(f"--part={part}")
    assert contains(message, f"part: {part!r} names no part", "K from 0 to N-1", "attattr run --help")


def test_a_part_in_a_spec(toy: Toy, model: Path, data: Path) -> None:
    spec = {"task": "sst2", "model": str(model), "data_dir": str(data), "limit": 4, "part": "1/2"}
    path = toy.folder / "spec.yaml"
    path.write_text(json.dumps(spec))
    toy("run", path, "--db", toy.db("p1"))
    assert rows_of(toy.db("p1"), "SELECT example_id FROM predictions ORDER BY ALL") == [(1,), (3,)]
    path.write_text(json.dumps(spec | {"part": 0.5}))
    assert "part: Input should be a valid string" in toy.refuses("run", path, "--db", toy.db("p1"))


def test_a_limit_comes_before_the_part(toy: Toy) -> None:
    toy.run("p0", "--limit", 4, "--part", "0/2")
    assert rows_of(toy.db("p0"), "SELECT example_id FROM predictions ORDER BY ALL") == [(0,), (2,)]
    message = toy.refuses_run("--limit", 2, "--part", "2/3")
    assert contains(message, "the part has no rows", "part 2/3 of 2 rows", "0/3 to 1/3", "fewer parts")


def test_an_example_of_a_part_is_found_by_its_id(toy: Toy) -> None:
    db = toy.part(1)
    toy("tree", "sst2-toy-part-1-of-3", 7, "--target", "predicted", "--db", db)
    message = toy.refuses("tree", "sst2-toy-part-1-of-3", 3, "--db", db)
    assert contains(message, "no such example", "1 to 7 in run sst2-toy-part-1-of-3, which is part 1/3")


def test_jobs_ask_the_model_about_a_part(toy: Toy) -> None:
    """Its texts are tokenised again, and must be those that the part was made with."""
    db = toy.part(0)
    toy("jobs", "run", "head_ablation", "--db", db)
    toy("verify", "--db", db)


# Merging


def test_parts_are_merged_into_the_whole_run(toy: Toy) -> None:
    parts, whole = [toy.part(number) for number in range(PARTS)], toy.db("merged")
    said = toy("merge", *parts, "--to", whole)
    assert contains(said, "p1.duckdb, part 1/3: 3 examples merged", f"run sst2-toy (1): {N} of {N} examples")
    assert "p1.duckdb, part 1/3: 0 examples merged, none is new" in toy("merge", parts[1], "--to", whole)
    toy("verify", "--db", whole)
    assert "complete, nothing to do" in toy.run("merged"), "it is the run without --part"
    same = "SELECT run_key, name, config, n_examples, status, seals FROM runs"
    assert rows_of(whole, same) == rows_of(toy.whole(), same)
    for query in (
        "SELECT * FROM examples ORDER BY ALL",
        "SELECT * FROM tokens ORDER BY ALL",
        "SELECT * FROM vocabulary ORDER BY ALL",
        "SELECT example_id, predicted, n_tokens FROM predictions ORDER BY ALL",
        "SELECT example_id, layer, head, target, round(attr_max, 4) FROM head_scores ORDER BY ALL",
    ):
        assert rows_of(whole, query) == rows_of(toy.db("whole"), query)
    toy("jobs", "run", "head_ablation", "head_importance", "--db", whole)


def test_a_run_computes_the_parts_that_are_missing(toy: Toy) -> None:
    whole = toy.db("merged")
    said = toy("merge", toy.part(0), toy.part(2), "--to", whole, code=1)
    assert contains(said, "7 of 10 examples", "missing: part 1/3 (3 examples)", "without --part", str(whole))
    assert "7 of 10 examples are committed" in toy("runs", "--db", whole) + toy(
        "export", "sst2-toy", "--to", toy.folder / "out", "--db", whole
    )
    assert contains(toy.refuses("jobs", "run", "head_importance", "--db", whole), "no", "finished")
    toy("verify", "--db", whole)
    assert "resumed; 10 of 10 examples" in toy.run("merged")
    toy("verify", "--db", whole)
    texts = "SELECT example_id, text_a FROM examples ORDER BY ALL"
    assert rows_of(whole, texts) == rows_of(toy.whole(), texts)
    assert toy("merge", toy.part(1), "--to", whole).count("none is new") == 1


def test_what_cannot_be_merged(toy: Toy) -> None:
    first, whole = toy.part(0), toy.db("merged")
    toy.run("other", "--part", "1/3", "--top-k", 2)
    message = toy.refuses("merge", first, toy.db("other"), "--to", whole)
    assert contains(message, "different runs", "differ in top_k", "next:")
    foreign = toy.folder / "foreign.duckdb"
    foreign.write_text("not a database\n" * 100)
    assert "not a DuckDB database" in toy.refuses("merge", first, foreign, "--to", whole)
    assert "there is no database yet" in toy.refuses("merge", first, toy.db("none"), "--to", whole)
    assert "no part of one" in toy.refuses("merge", first, toy.whole(), "--to", whole)
    assert not whole.exists()
    before = first.read_bytes()
    assert "into its own store" in toy.refuses("merge", first, "--to", first)
    assert first.read_bytes() == before
    assert "not a DuckDB database" in toy.refuses("merge", first, "--to", foreign)
