from __future__ import annotations

from pathlib import Path

import pytest

from attattr_batch.errors import UserError
from attattr_batch.files import data_folder
from attattr_batch.store.database.sqlfile import load_file, load_folder

FULL = """\
-- name: pairs
-- description: What it is,
--   over two lines: with a colon.
-- grain: a, b
-- depends: first, second third
-- column a: The a.
-- column b: The b,
--   at length.
-- audits: something
SELECT a, b -- name: not a header any more
FROM first;
"""


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / f"{name}.sql"
    path.write_text(content)
    return path


def test_every_part_of_a_header_is_read(tmp_path: Path) -> None:
    found = load_file(write(tmp_path, "pairs", FULL))
    assert found.name == "pairs"
    assert found.description == "What it is, over two lines: with a colon."
    assert found.depends == ("first", "second", "third")
    assert found.columns == {"a": "The a.", "b": "The b, at length."}
    assert found.fields["grain"] == "a, b"
    assert found.fields["audits"] == "something"
    assert found.query == "SELECT a, b -- name: not a header any more\nFROM first"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SELECT 1", "lacks `-- name"),
        ("-- name: x\nSELECT 1", "lacks `-- description"),
        ("-- name: y\n-- description: d\nSELECT 1", "must be the file's"),
        ("-- name: x\n-- description: d\n", "no SQL follows"),
        ("-- name: x\n-- description: d\n;\n", "no SQL follows"),
    ],
)
def test_an_incomplete_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_file(write(tmp_path, "x", content))
    assert "x.sql" in str(caught.value)


def with_depends(name: str, depends: str) -> str:
    return f"-- name: {name}\n-- description: d\n-- depends: {depends}\nSELECT 1\n"


def test_files_come_after_what_they_depend_on(tmp_path: Path) -> None:
    for name, depends in {"a": "c", "b": "a runs", "c": "", "d": "b, c"}.items():
        write(tmp_path, name, with_depends(name, depends))
    order = [one.name for one in load_folder(tmp_path)]
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("c") < order.index("a") < order.index("b") < order.index("d")


def test_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", with_depends("a", "b"))
    write(tmp_path, "b", with_depends("b", "a"))
    with pytest.raises(UserError, match="circle"):
        load_folder(tmp_path)


@pytest.mark.parametrize("folder", ["schema/views", "jobs/audits"])
def test_our_files_say_what_one_row_is(folder: str) -> None:
    top, _, rest = folder.partition("/")
    files = load_folder(data_folder(top) / rest)
    assert len(files) >= 9
    for one in files:
        assert "grain" in one.fields or folder == "jobs/audits"  # an audit's rows are whatever offends
        assert one.description.endswith(".")
        unknown = {key for key in one.fields if not key.startswith("column ")}
        assert unknown <= {"name", "description", "grain", "depends"}
