from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attattr_batch.data.records import Example
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.data.tasks import GLUE_TASKS, glue_task
from attattr_batch.data.text_files import read_text_file
from attattr_batch.errors import UserError
from attattr_batch.spec import make_spec


def read_glue(
    folder: Path, name: str, content: str | bytes, split: str = "dev", limit: int | None = None
) -> tuple[Example, ...]:
    """Writes a file in the place of a task's split, and reads it."""
    task = glue_task(name)
    path = folder / task.folder / task.file(split)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    spec = {"model": "m", "task": name, "data_dir": str(folder), "split": split, "limit": limit}
    return load_dataset_for(make_spec(spec).data).examples


def test_reading_tsv_files_needs_no_heavy_library() -> None:
    code = (
        "import sys, attattr_batch.data.sources;"
        "sys.exit(bool({'datasets', 'transformers', 'torch', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_label_order_is_the_hubs() -> None:
    orders = {name: task.labels for name, task in GLUE_TASKS.items()}
    three = ("entailment", "neutral", "contradiction")
    assert orders == {
        "cola": ("unacceptable", "acceptable"),
        "mnli": three,
        "mnli_mismatched": three,
        "mrpc": ("not_equivalent", "equivalent"),
        "qnli": ("entailment", "not_entailment"),
        "qqp": ("not_duplicate", "duplicate"),
        "rte": ("entailment", "not_entailment"),
        "sst2": ("negative", "positive"),
        "stsb": (),
        "wnli": ("not_entailment", "entailment"),
    }


def test_only_newlines_split_rows_and_only_tabs_split_fields(tmp_path: Path) -> None:
    odd = 'a "quote\u2028\u0085\x0b\x0c\r, b'
    path = tmp_path / "x.tsv"
    path.write_bytes(f"s\tl\r\n{odd}\t1\r\n\u00a0 \t0\n".encode())
    table = read_text_file(path, ("s", "l", "missing"))
    assert table.names == ["s", "l"]
    assert table.columns == {"s": [odd, "\u00a0 "], "l": ["1", "0"]}
    assert table.lines == [2, 3]


def test_sst2_texts_are_stripped_and_the_last_newline_may_lack(tmp_path: Path) -> None:
    content = "sentence\tlabel\n it 's good . \t1\n  \t0"
    assert read_glue(tmp_path, "sst2", content) == (
        Example(0, "it 's good .", None, 1),
        Example(1, "", None, 0),
    )


def test_cola_has_no_header_but_in_test(tmp_path: Path) -> None:
    content = "gj04\t1\t\tThe sailors rode.\ngj04\t0\t*\tThe weights.\n"
    assert read_glue(tmp_path, "cola", content) == (
        Example(0, "The sailors rode.", None, 1),
        Example(1, "The weights.", None, 0),
    )
    test = read_glue(tmp_path, "cola", "index\tsentence\n0\tBill goes.\n", "test")
    assert test == (Example(0, "Bill goes.", None, None),)


def test_mrpc_has_a_byte_order_mark(tmp_path: Path) -> None:
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    content = "\ufeff" + header + '1\t7\t8\tHe said "x\ty"\n'
    assert read_glue(tmp_path, "mrpc", content) == (Example(0, 'He said "x', 'y"', 1),)


def test_labels_are_names_or_ids_and_mnli_marks_no_consensus(tmp_path: Path) -> None:
    content = "sentence1\tsentence2\tgold_label\na\tb\tcontradiction\nc\td\t1\ne\tf\t-\n"
    assert [row.gold for row in read_glue(tmp_path, "mnli", content)] == [2, 1, None]
    with pytest.raises(UserError, match=r"unknown label\n.*RTE.dev\.tsv, column 'label', line 2: '-'"):
        read_glue(tmp_path, "rte", "sentence1\tsentence2\tlabel\na\tb\t-\n")


def test_a_test_file_may_lack_labels_but_a_dev_file_may_not(tmp_path: Path) -> None:
    content = "index\tsentence1\tsentence2\n0\ta\tb\n"
    assert read_glue(tmp_path, "rte", content, "test") == (Example(0, "a", "b", None),)
    with pytest.raises(UserError, match=r"missing 'label'\n.*'index', 'sentence1', 'sentence2'"):
        read_glue(tmp_path, "rte", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence\tlabel\na\t1\nb\n", r"too few fields\n.*dev\.tsv, line 3: 1 fields\n.*2 fields"),
        ("sentence\tlabel\na\t1\t2\n", r"too many fields\n.*dev\.tsv, line 2: 3 fields"),
        ("sentence\tlabel\na\t1\n\nb\t0\n", r"too few fields\n.*line 3"),
        ("sentence\tlabel\na\t2\n", r"unknown label\n.*line 2: '2'\n.*negative \(0\), positive \(1\)"),
        ("sentence\tlabel\na\tgood\n", r"line 2: 'good'"),
        *((f"sentence\tlabel\na\t{odd}\n", rf"line 2: '{odd}'") for odd in ("", "-1", "\u0661")),
        ("text\tlabel\na\t1\n", r"missing 'sentence'\n.*there are: 'text', 'label'"),
        ("", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"sentence\tlabel\ncaf\xc3\xa9\t1\ncaf\xe9\t1\n", r"not UTF-8\n.*line 3: byte 0xe9"),
        ("sentence\tlabel\na\t1\n".encode("utf-16"), r"not UTF-8\n.*line 1: byte 0xff"),
    ],
)
def test_broken_files_name_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_glue(tmp_path, "sst2", content)


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    assert len(read_glue(tmp_path, "sst2", "sentence\tlabel\na\t1\nbroken\n", limit=1)) == 1


def test_an_unreadable_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_text_file(tmp_path, ())
