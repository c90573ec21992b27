"""The report in a real browser with the network off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.opened import chromium

from attattr_batch.report.figures import FIGURES
from attattr_batch.report.html import write_report
from attattr_batch.store.database.connection import Store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_without_a_network(built_file: Path, tmp_path: Path, scheme: str) -> None:
    copy = tmp_path / "built.duckdb"
    shutil.copy(built_file, copy)
    path = write_report(Store(copy), tmp_path / "report.html")
    faults: list[str] = []
    with chromium() as browser:
        page = browser.new_context(offline=True, color_scheme=scheme).new_page()  # type: ignore[arg-type]
        page.set_default_timeout(90_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda one: faults.append(one.text) if one.type == "error" else None)
        page.on(
            "request",
            lambda one: faults.append(one.url) if not one.url.startswith(("file:", "data:")) else None,
        )
        page.goto(path.as_uri())
        for name in set(FIGURES) - {"heads"}:
            page.wait_for_selector(f"#chart-{name} svg")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 26)"}[scheme]
    assert faults == []
