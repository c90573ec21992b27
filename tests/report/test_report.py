"""The report: self-contained, escaped, with the numbers of the store."""

import re
from pathlib import Path

import pytest
from fabricate import commit, filled_store, new_store, register, registered_store

from attattr_batch.errors import UserError
from attattr_batch.report.html import write_report


def test_the_report_holds_pictures_and_numbers_and_fetches_nothing(tmp_path: Path) -> None:
    page = write_report(filled_store(tmp_path), tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert '<td class="number">0.75</td>' in page, "accuracy of the fabricated run"
    assert not re.search(r"""(src|href)=["']|<script|@import|url\((?!#)""", page)
    outside = {url for url in re.findall(r"https?://[^\s\"'<>]+", page)}
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_names_and_tokens_are_escaped(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 4, model="<script>alert(1)</script>")
    commit(store, pass_id, range(4))
    page = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_run_without_results_says_so(tmp_path: Path) -> None:
    page = write_report(registered_store(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No example is committed yet" in page


def test_an_empty_store_and_a_bad_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run yet"):
        write_report(new_store(tmp_path), tmp_path / "report.html")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(filled_store(tmp_path), tmp_path)
