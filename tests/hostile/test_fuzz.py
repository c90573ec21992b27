"""What people and programs write is read, or refused in words: nothing brings anything but UserError."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attattr_batch.analysis.catalogue import load_catalogue, read_parameters
from attattr_batch.data.insertion import Trigger, insert_trigger
from attattr_batch.data.records import EncodedExample
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.data.tasks import glue_task
from attattr_batch.data.text_files import read_text_file
from attattr_batch.errors import UserError
from attattr_batch.passes.requests import attack_request, mask_request
from attattr_batch.spec import RUN_KEYS, DataSettings, RunSpec
from attattr_batch.spec_file import load_spec
from attattr_batch.store.database.sqlfile import load_file

thorough = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
refused = contextlib.suppress(UserError)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Tables

_HEADERS = {
    "sst2": b"sentence\tlabel\n",
    "mnli": b"\t".join(
        b"index promptID pairID genre s1 s2 s3 s4 sentence1 sentence2 label1 gold_label".split()
    ),
    "mrpc": b"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
    "cola": b"",
}
_PIECES = [
    b"\t",
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b"0",
    b"1",
    b"-",
    b"9" * 5000,
]


@thorough
@given(st.sampled_from(sorted(_HEADERS)), st.lists(st.sampled_from(_PIECES) | st.binary(max_size=8)))
@example("sst2", [b"a film\t", b"9" * 5000])
def test_glue_files(folder: Path, name: str, pieces: list[bytes]) -> None:
    task = glue_task(name)
    path = folder / task.folder / task.file("dev")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_HEADERS[name] + b"".join(pieces))
    with refused:
        for one in load_dataset_for(DataSettings(task=name, data_dir=str(folder))):
            assert one.gold is None or 0 <= one.gold < len(task.labels)


@thorough
@given(st.lists(st.sampled_from([*_PIECES, b","]) | st.binary(max_size=8)))
@example([b'"a', b"\n"])
@example([b"a,b\n", b'"x"y,z\n'])
@example([b"a\n", b"x" * 200_000])
def test_csv_files(folder: Path, pieces: list[bytes]) -> None:
    path = folder / "own.csv"
    path.write_bytes(b"".join(pieces))
    with refused:
        table = read_text_file(path, ("a", "b"))
        assert all(len(column) == len(table.lines or ()) for column in table.columns.values())


# Run specs

_SCALARS = st.sampled_from(
    [
        "!!int x", "!!timestamp x", "!!bool x", "!!binary x", "2001-99-99", "'\\0'", '"\\0"', '"\\ud800"',
        "1e999", ".nan", "~nobody-is-called-this/x", "./" + "x" * 5000, "9" * 5000, "null", "[]", "{}", "*x",
        "&x [*x]",
        "!!python/object/apply:os.system ['true']", "[" * 500, "{a: " * 500, "0x", "!!float x", "? [a]\n: b",
    ]
)  # fmt: skip
_SETTING = st.tuples(st.sampled_from([*RUN_KEYS, "runs", "defaults", "<<", "1"]), _SCALARS | st.text())


@thorough
@given(st.lists(_SETTING, max_size=5).map(lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs)))
@example("a: &a [x, x, x, x, x, x, x, x, x]\nruns: [&b [*a, *a, *a], &c [*b, *b, *b], [*c, *c, *c]]")
@example("{task: sst2, model: '~nobody-is-called-this/x'}")
@example('{task: sst2, model: "a\\0b"}')
def test_run_specs(folder: Path, text: str) -> None:
    path = folder / "spec.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with refused:
        assert all(isinstance(one, RunSpec) for one in load_spec(path))


def test_a_spec_that_multiplies_itself_is_refused_in_few_words(folder: Path) -> None:
    """Each level holds the one before ten times: written out, it would fill the memory."""
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = folder / "laughs.yaml"
    path.write_text(
        "defaults: {}\nruns:\n- [*l11]\n".replace(
            "defaults: {}", "\n".join(["defaults:", *("  " + one for one in levels)])
        )
    )
    with pytest.raises(UserError, match=r"runs\.0: .*dictionary") as caught:
        load_spec(path)
    assert len(str(caught.value)) < 2000


# SQL files and jobs

_LINES = st.sampled_from(
    [
        "-- name: job", "-- name: ../job", "-- description: d", "-- materialized: table",
        "-- materialized: attacked_answers", "-- param n: integer = 1; a number", "-- param n: x = 1",
        "-- : x", ";",
        "-- param n: integer = " + "9" * 5000 + "; m", "-- param n: number = nan; m",
        "-- param n: a|b = c; m", "--",
        "-- depends: job", "-- depends: runs, nowhere", "-- audits: unique_keys", "-- audits: none",
        "-- agree: x", "-- column c: meaning", "-- grain: a", "SELECT $n", "SELECT 1", "SELECT '$x' -- $y",
        "DROP TABLE runs; SELECT 1", "/*",
    ]
)  # fmt: skip


@thorough
@given(st.lists(_LINES | st.text(max_size=30)), st.binary(max_size=3))
@example(["-- name: job", "-- description: d", "SELECT 1"], b"\xff")
def test_job_files(folder: Path, lines: list[str], tail: bytes) -> None:
    (folder / "jobs").mkdir(exist_ok=True)
    path = folder / "jobs" / "job.sql"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + tail)
    with refused:
        assert load_file(path).name == "job"
    with refused:
        job = load_catalogue(folder / "jobs").job("job")
        read_parameters([job], dict.fromkeys(job.parameters, "7"))


# Triggers

_WORDS = st.lists(st.integers(1, 99), max_size=12)
_TRIGGERS = st.lists(
    st.tuples(st.integers(200, 300), st.integers(0, 1), st.floats(0, 1, exclude_min=True)), max_size=8
)


@given(_WORDS, _WORDS, _TRIGGERS, st.integers(4, 30))
def test_triggers_go_into_any_pair(
    first: list[int], second: list[int], tokens: list[tuple[int, int, float]], max_length: int
) -> None:
    victim = EncodedExample(
        example_id=0,
        input_ids=(101, *first, 102, *second, 102),
        token_type_ids=None,
        segments=(None, *(0,) * len(first), None, *(1,) * len(second), None),
        gold=0,
        truncated=False,
    )
    trigger = Trigger(*(tuple(part) for part in zip(*tokens, strict=True))) if tokens else Trigger((), (), ())
    with contextlib.suppress(ValueError):  # the victim lacks a text: it alone is quarantined
        attacked, cut = insert_trigger(victim, trigger, max_length)
        assert len(attacked.input_ids) == len(attacked.segments) <= max(max_length, 3)
        assert attacked.segments.count(None) == 3
        inserted = [one for one in attacked.input_ids if one >= 200]
        assert cut == (len(inserted) < len(tokens))
        for side, words in ((0, first), (1, second)):
            kept = [
                one
                for one, place in zip(attacked.input_ids, attacked.segments, strict=True)
                if place == side and one < 100
            ]
            assert kept == words[: len(kept)]


_LIST = st.none() | st.lists(st.none() | st.integers(-3, 3) | st.just(2**40), max_size=3)
_ANY = (
    st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.floats(), max_size=3) | _LIST
)
_ROW = st.fixed_dictionaries(
    {
        "pattern": _ANY,
        "control": _ANY | st.booleans(),
        "criterion": _ANY | st.text(max_size=2),
        "example_ids": _ANY | _LIST,
        "heads": _ANY | _LIST,
        "tokens": _ANY | _LIST,
        "segments": _ANY | _LIST,
        "ratios": _ANY | st.lists(st.floats(), max_size=3),
    }
)


def _tables() -> st.SearchStrategy[pa.Table]:
    """One row of anything, or several of one shape."""

    def table(row: dict[str, Any], times: int) -> pa.Table:
        return pa.table({name: [value] * times for name, value in row.items()})

    return st.builds(table, _ROW, st.integers(0, 2)).filter(lambda one: one is not None)


@thorough
@given(st.data())
def test_orders_of_jobs(data: st.DataObject) -> None:
    try:
        rows = data.draw(_tables())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return  # no query could return such a table
    with refused:
        for trigger in attack_request(rows).items:
            assert set(trigger.segments) <= {0, 1}
            assert all(0 < ratio <= 1 for ratio in trigger.ratios)
    with refused:
        for mask in mask_request(rows, 2, 2).items:
            assert all(0 <= head < 4 for head in mask)
