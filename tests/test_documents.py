"""The generated documents are up to date, and one that is not is noticed."""

from collections.abc import Callable
from pathlib import Path

from documents import DOCUMENTS, stale, write


def test_they_are_up_to_date() -> None:
    assert stale(DOCUMENTS) == [], "`make docs`"


def test_a_stale_or_missing_one_is_named_and_written(tmp_path: Path) -> None:
    made: dict[str, Callable[[], str]] = {"one.md": lambda: "one", "two.md": lambda: "two"}
    assert stale(made, tmp_path) == ["one.md", "two.md"]
    write(made, tmp_path)
    assert stale(made, tmp_path) == []
    (tmp_path / "two.md").write_text("two, and more")
    assert stale(made, tmp_path) == ["two.md"]
