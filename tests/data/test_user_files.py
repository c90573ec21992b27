from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attattr_batch.data.records import Dataset, Example
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.data.user_files import open_hub
from attattr_batch.errors import UserError
from attattr_batch.spec import DataSettings, make_settings

COLUMNS = {"text_a": "premise", "text_b": "claim", "label": "verdict"}
ROWS = [
    {"premise": "None", "claim": 'say "x"', "verdict": "true", "id": 7},
    {"premise": "NA", "claim": "a, b", "verdict": "false", "id": 8},
    {"premise": "null", "claim": "caf\u00e9", "verdict": "true", "id": 9},
]
EXPECTED = (
    Example(0, "None", 'say "x"', 1),
    Example(1, "NA", "a, b", 0),
    Example(2, "null", "caf\u00e9", 1),
)


def load(path: Path, **keys: Any) -> Dataset:
    return load_dataset_for(make_settings(DataSettings, {"dataset": str(path), "columns": COLUMNS, **keys}))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows in the format that the file's name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".jsonl", ".json"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        lines = [",".join(rows[0])]
        lines += [",".join('"' + str(cell).replace('"', '""') + '"' for cell in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    dataset = load(path)
    assert dataset.examples == EXPECTED
    assert dataset.labels == ("false", "true")
    assert (dataset.task, dataset.source, dataset.revision) == ("x", str(path), None)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "folder/train.parquet"])
def test_reading_shows_no_progress_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write(path, ROWS)
    load(path if path.parent == tmp_path else path.parent, split="train")
    assert capsys.readouterr() == ("", "")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROWS)
    load(path)
    write(path, [{**ROWS[0], "premise": "changed"}, ROWS[1]])
    assert [row.text_a for row in load(path)] == ["changed", "NA"]


def test_label_names_do_not_depend_on_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", ROWS)
    assert load(path, limit=1).labels == ("false", "true")
    assert load(path, limit=1).examples == EXPECTED[:1]
    assert len(load(path, limit=99)) == 3


def test_numbers_as_label_names_are_in_their_own_order(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("premise,verdict\n" + "".join(f"text {n},{n % 12}\n" for n in range(24)))
    dataset = load(path, columns={"text_a": "premise", "label": "verdict"})
    assert dataset.labels == tuple(map(str, range(12)))
    assert [row.gold for row in dataset] == [n % 12 for n in range(24)]


@pytest.mark.parametrize(
    "labels",
    [
        ("01", "2", "10"),
        ("9", "010"),
        ("1.5", "2.5", "10.5"),
        ("-10", "-2", "3"),
        ("1", "10", "2", "two"),
        ("1", "10", "2", "nan"),
    ],
)
def test_label_names_are_ordered_as_numbers_where_all_are(tmp_path: Path, labels: tuple[str, ...]) -> None:
    rows = [{"premise": "a text", "verdict": label} for label in reversed(labels)]
    path = write(tmp_path / "x.jsonl", rows)
    assert load(path, columns={"text_a": "premise", "label": "verdict"}).labels == labels


def test_integer_labels_need_names_and_unlabelled_rows_have_no_gold(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "verdict": label} for label in (1, -1, 0, None)]
    path = write(tmp_path / "x.jsonl", rows)
    with pytest.raises(UserError, match="label names are not known\n.*'verdict'(.*\n)*.*`labels`"):
        load(path)
    dataset = load(path, labels=["no", "yes"])
    assert [row.gold for row in dataset] == [1, None, 0, None]
    with pytest.raises(UserError, match=r"unknown label\n.*x\.jsonl, column 'verdict', row 0: 2"):
        load(write(tmp_path / "x.jsonl", [{**ROWS[0], "verdict": 2}]), labels=["no", "yes"])
    with pytest.raises(UserError, match=r"unknown label\n.*row 0: 0\.5"):
        load(write(tmp_path / "x.jsonl", [{**ROWS[0], "verdict": 0.5}]), labels=["no", "yes"])


@pytest.mark.parametrize(
    ("names", "labels", "gold"),
    [
        (["no", "yes"], [1.0, math.nan, 0.0, None], [1, None, 0, None]),
        (["1", "2", "10"], [10.0, math.nan, 1.0, None], [2, None, 0, None]),
    ],
    ids=["ids", "numbers as names"],
)
def test_a_label_that_is_no_number_is_none(
    tmp_path: Path, names: list[str], labels: list[float | None], gold: list[int | None]
) -> None:
    """pandas writes missing integers so."""
    texts = [f"text {n}" for n in range(len(labels))]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"premise": texts, "verdict": pa.array(labels, pa.float64())}), path)
    columns = {"text_a": "premise", "label": "verdict"}
    assert [row.gold for row in load(path, columns=columns, labels=names)] == gold
    pq.write_table(pa.table({"premise": ["a text"], "verdict": [math.inf]}), path)
    with pytest.raises(UserError, match=r"unknown label\n.*row 0: inf"):
        load(path, columns=columns, labels=names)


@pytest.mark.parametrize("cell", ["nan", "NaN"])
def test_the_word_nan_in_a_text_file_is_no_label(tmp_path: Path, cell: str) -> None:
    """It is a word like any other there: nobody can tell what it was to mean."""
    path = tmp_path / "x.csv"
    path.write_text(f"premise,verdict\na text,1\nanother,{cell}\n")
    with pytest.raises(UserError, match=rf"unknown label\n.*line 3: '{cell}'"):
        load(path, columns={"text_a": "premise", "label": "verdict"}, labels=["0", "1"])


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet"])
@pytest.mark.parametrize(
    "labels", [["1", "2", "3", "4", "5"], ["-1", "0", "1"], ["0", "1", "2"], ["3", "2", "1"]]
)
def test_where_all_names_are_numbers_a_number_is_a_name(tmp_path: Path, name: str, labels: list[str]) -> None:
    rows = [{"premise": f"text {label}", "verdict": int(label)} for label in labels[:3]]
    columns = {"text_a": "premise", "label": "verdict"}
    dataset = load(write(tmp_path / name, rows), columns=columns, labels=labels)
    assert [row.gold for row in dataset] == [0, 1, 2]
    with pytest.raises(UserError, match="unknown label"):
        load(write(tmp_path / name, [{**rows[0], "verdict": 7}]), columns=columns, labels=labels)


def test_a_number_that_is_no_name_is_no_id_beside_names_that_are_numbers(tmp_path: Path) -> None:
    columns, stars = {"text_a": "premise", "label": "verdict"}, ["1", "2", "3"]
    for name, value in (("x.csv", "0"), ("x.jsonl", 0)):
        with pytest.raises(UserError, match=r"unknown label(.*\n)*.*1 \(0\), 2 \(1\), 3 \(2\)"):
            load(
                write(tmp_path / name, [{"premise": "a text", "verdict": value}]),
                columns=columns,
                labels=stars,
            )
    path = write(tmp_path / "y.jsonl", [{"premise": "a text", "verdict": one} for one in (2.0, None, -1, 1)])
    assert [row.gold for row in load(path, columns=columns, labels=stars)] == [1, None, None, 0]


def test_true_and_false_are_names_where_the_labels_say_so(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "verdict": verdict} for verdict in (True, False)]
    path = write(tmp_path / "x.jsonl", rows)
    assert [row.gold for row in load(path, labels=["True", "False"])] == [0, 1]
    assert [row.gold for row in load(path, labels=["no", "yes"])] == [1, 0]


def test_a_folder_of_csv_files_keeps_its_texts(tmp_path: Path) -> None:
    write(tmp_path / "dev.csv", ROWS)
    assert load(tmp_path, labels=["false", "true"]).examples == EXPECTED


def test_blank_lines_and_very_long_texts_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"text,label\n\nshort,bad\n\n{'long ' * 40_000},good\n\n", encoding="utf-8")
    dataset = load(path, columns={"text_a": "text", "label": "label"}, labels=["bad", "good"])
    assert [(row.text_a[:5], row.gold) for row in dataset] == [("short", 0), ("long ", 1)]


def test_given_names_order_text_labels_and_must_cover_them(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ROWS)
    assert [row.gold for row in load(path, labels=["true", "false"])] == [0, 1, 0]
    with pytest.raises(UserError, match="unknown label\n.*line 3: 'false'"):
        load(path, labels=["true", "wrong"])
    with pytest.raises(UserError, match="two or more"):
        load(write(tmp_path / "y.csv", ROWS[:1]))


def test_without_a_label_column_the_names_must_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", ROWS)
    with pytest.raises(UserError, match="no label column"):
        load(path, columns={"text_a": "premise"})
    dataset = load(path, columns={"text_a": "premise"}, labels=["no", "yes"])
    assert dataset.examples[0] == Example(0, "None", None, None)


def test_class_labels_carry_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"premise": datasets.Value("string"), "verdict": datasets.ClassLabel(names=["no", "maybe", "yes"])}
    )
    path = tmp_path / "x.parquet"
    data = datasets.Dataset.from_dict({"premise": ["a", None], "verdict": [2, -1]}, features=features)
    data.to_parquet(path)
    columns = {"text_a": "premise", "label": "verdict"}
    dataset = load(path, columns=columns)
    assert dataset.labels == ("no", "maybe", "yes")
    assert dataset.examples == (Example(0, "a", None, 2), Example(1, "", None, None))
    assert load(path, columns=columns, labels=["n", "m", "y"]).labels == ("n", "m", "y")
    stars = load(path, columns=columns, labels=["1", "2", "3"])
    assert [row.gold for row in stars] == [2, None], "the column holds ids"
    for names in (["yes", "no", "maybe"], ["no", "yes"]):
        with pytest.raises(UserError, match="contradicts"):
            load(path, columns=columns, labels=names)


def test_a_glue_task_lends_its_columns_and_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"sentence": "good ", "label": 1}, {"sentence": "bad ", "label": 0}])
    dataset = load(path, columns=None, task="sst2")
    assert (dataset.task, dataset.labels) == ("sst2", ("negative", "positive"))
    assert dataset.examples == (Example(0, "good", None, 1), Example(1, "bad", None, 0))


def test_missing_and_wrong_columns_name_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", ROWS)
    with pytest.raises(UserError, match=r"missing 'text'\n.*'premise', 'claim', 'verdict', 'id'"):
        load(path, columns={"text_a": "text", "label": "verdict"})
    with pytest.raises(UserError, match=r"'id' of .* does not hold text(.*\n)*.*premise, claim, verdict"):
        load(path, columns={"text_a": "id", "label": "verdict"})


def test_a_folder_has_splits_and_dev_is_validation(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "validation.jsonl", ROWS[:2])
    assert load(tmp_path).examples == EXPECTED[:2]
    assert load(tmp_path, split="train").examples == EXPECTED
    with pytest.raises(UserError, match=r"no such split\n.*test\n  allowed: train, validation"):
        load(tmp_path, split="test")


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"validation": data}).save_to_disk(tmp_path / "many")
    assert load(tmp_path / "one").examples == load(tmp_path / "many").examples == EXPECTED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2,3\n", r"too many fields\n.*x\.csv, line 2: 3 fields"),
        ("x.csv", 'a,b\n1,"2\n', "broken CSV row\n.*line 2: unexpected end of data"),
        ("x.csv", "", "data file is empty"),
        ("x.jsonl", '{"a": \n', "cannot open the data file"),
        ("x.parquet", "not parquet", "cannot open the data file"),
        ("x.xlsx", "", r"cannot tell the format.*\n.*\n  allowed: \.tsv, \.csv"),
        ("x.tsv", "a\tb\n1\n", "line 2: 1 fields"),
        ("x.tsv", "a\ta\n1\t2\n", "names a column twice"),
    ],
)
def test_broken_files_are_user_errors(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["./nothing", "nothing.csv", "/nothing/x"])
def test_a_missing_path_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match="no such data file or folder"):
        load_dataset_for(make_settings(DataSettings, {"dataset": name, "columns": COLUMNS}))


def test_data_scripts_are_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match="scripts are no longer supported"):
        load(folder)


def test_a_cache_that_holds_another_commit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, wanted = "a" * 40, "b" * 40
    builder = SimpleNamespace(hash=cached, info=SimpleNamespace(splits={"train": None}))
    builder.download_and_prepare = lambda: None
    builder.as_dataset = lambda split: datasets.Dataset.from_list(ROWS)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *names, revision: builder)
    with pytest.raises(UserError, match=f"another revision(.*\n)*.*{cached}\n.*{wanted}"):
        open_hub("some/set", None, wanted, "train")
    assert open_hub("some/set", None, cached, "train").revision == cached
    assert open_hub("some/set", None, "main", "train").revision == cached
