"""The generated documents are up to date, and one that is not is noticed."""

import re
from collections.abc import Callable
from pathlib import Path

from documents import DOCUMENTS, stale, write
from spec_reference import reference_markdown

from attattr_batch.spec import RUN_KEYS, WorkerPool
from attattr_batch.spec_file import load_spec


def test_they_are_up_to_date() -> None:
    assert stale(DOCUMENTS) == [], "`make docs`"


def test_a_stale_or_missing_one_is_named_and_written(tmp_path: Path) -> None:
    made: dict[str, Callable[[], str]] = {"one.md": lambda: "one", "two.md": lambda: "two"}
    assert stale(made, tmp_path) == ["one.md", "two.md"]
    write(made, tmp_path)
    assert stale(made, tmp_path) == []
    (tmp_path / "two.md").write_text("two, and more")
    assert stale(made, tmp_path) == ["two.md"]


def test_the_spec_reference_has_every_key_and_valid_examples(tmp_path: Path) -> None:
    text = reference_markdown()
    for key in [*RUN_KEYS, *WorkerPool.model_fields]:
        assert f"\n| `{key}` | " in text, key
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        (tmp_path / "spec.yaml").write_text(block, encoding="utf-8")
        assert load_spec(tmp_path / "spec.yaml")
    assert len(blocks) == 4
