from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attattr_batch.data.records import Example
from attattr_batch.data.tasks import GLUE_TASKS, glue_task
from attattr_batch.data.tsv import label_id, read_glue, read_table
from attattr_batch.errors import UserError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_importing_the_task_table_and_the_tsv_reader_loads_no_heavy_library() -> None:
    code = (
        "import sys, attattr_batch.data.tasks, attattr_batch.data.tsv, attattr_batch.data.sources;"
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
    path = write(tmp_path / "x.tsv", f"s\tl\r\n{odd}\t1\r\n\u00a0 \t0\n")
    columns, rows = read_table(path)
    assert columns == ("s", "l")
    assert [(row.line, dict(row.fields)) for row in rows] == [
        (2, {"s": odd, "l": "1"}),
        (3, {"s": "\u00a0 ", "l": "0"}),
    ]


def test_sst2_texts_are_stripped_and_the_last_newline_may_lack(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "sentence\tlabel\n it 's good . \t1\n  \t0")
    assert read_glue(path, glue_task("sst2"), "dev") == [
        Example(0, "it 's good .", None, 1),
        Example(1, "", None, 0),
    ]


def test_cola_has_no_header_but_in_test(tmp_path: Path) -> None:
    dev = write(tmp_path / "dev.tsv", "gj04\t1\t\tThe sailors rode.\ngj04\t0\t*\tThe weights.\n")
    assert read_glue(dev, glue_task("cola"), "dev") == [
        Example(0, "The sailors rode.", None, 1),
        Example(1, "The weights.", None, 0),
    ]
    test = write(tmp_path / "test.tsv", "index\tsentence\n0\tBill goes.\n")
    assert read_glue(test, glue_task("cola"), "test") == [Example(0, "Bill goes.", None, None)]


def test_mrpc_has_a_byte_order_mark(tmp_path: Path) -> None:
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    path = write(tmp_path / "dev.tsv", ("\ufeff" + header + '1\t7\t8\tHe said "x\ty"\n').encode())
    assert read_glue(path, glue_task("mrpc"), "dev") == [Example(0, 'He said "x', 'y"', 1)]


def test_labels_are_names_or_ids_and_mnli_marks_no_consensus(tmp_path: Path) -> None:
    path = write(
        tmp_path / "dev.tsv",
        "sentence1\tsentence2\tgold_label\na\tb\tcontradiction\nc\td\t1\ne\tf\t-\n",
    )
    assert [row.gold for row in read_glue(path, glue_task("mnli"), "dev")] == [2, 1, None]
    rte = write(tmp_path / "rte.tsv", "sentence1\tsentence2\tlabel\na\tb\t-\n")
    with pytest.raises(UserError, match=r"unknown label\n  got:     .*rte\.tsv, line 2: '-'"):
        read_glue(rte, glue_task("rte"), "dev")


def test_a_test_file_may_lack_labels_but_a_dev_file_may_not(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n")
    assert read_glue(path, glue_task("rte"), "test") == [Example(0, "a", "b", None)]
    with pytest.raises(UserError, match=r"missing 'label'\n.*'index', 'sentence1', 'sentence2'"):
        read_glue(path, glue_task("rte"), "dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sentence\tlabel\na\t1\nb\n", r"too few fields\n  got:     .*x\.tsv, line 3: 1 fields\n.*2 fields"),
        ("sentence\tlabel\na\t1\t2\n", r"too many fields\n  got:     .*x\.tsv, line 2: 3 fields"),
        ("sentence\tlabel\na\t1\n\nb\t0\n", r"too few fields\n  got:     .*line 3"),
        (
            "sentence\tlabel\na\t2\n",
            r"unknown label\n.*line 2: '2'\n  allowed: negative \(0\), positive \(1\)",
        ),
        ("sentence\tlabel\na\tgood\n", r"line 2: 'good'"),
        ("text\tlabel\na\t1\n", r"missing 'sentence'\n.*there are: 'text', 'label'"),
        ("", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"sentence\tlabel\ncaf\xc3\xa9\t1\ncaf\xe9\t1\n", r"not UTF-8\n  got:     .*line 3: byte 0xe9"),
        ("sentence\tlabel\na\t1\n".encode("utf-16"), r"not UTF-8\n  got:     .*line 1: byte 0xff"),
    ],
)
def test_broken_files_name_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_glue(write(tmp_path / "x.tsv", content), glue_task("sst2"), "dev")


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "sentence\tlabel\na\t1\nbroken\n")
    assert len(read_glue(path, glue_task("sst2"), "dev", limit=1)) == 1


def test_an_unreadable_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_table(tmp_path)


def test_label_ids_are_plain_digits_in_range() -> None:
    labels = ("a", "1")
    assert [label_id(text, labels) for text in ("a", "1", "0", "2", "-1", "+1", "\u0661", "")] == [
        0, 1, 0, None, None, None, None, None,
    ]  # fmt: skip
