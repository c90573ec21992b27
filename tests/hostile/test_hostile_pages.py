"""Markup in texts, shown in a real browser: nothing of it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.opened import Browser, ask, browser, chromium, dashboard
from helpers.poison import poisoned
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page

from attattr_batch.report.html import write_report
from attattr_batch.store.database.connection import Store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine"),
]

PAGES = ["Overview", "Heads", "Universality", "Pruning", "Examples", "Triggers", "Compare", "SQL"]


@pytest.fixture(scope="module")
def launched() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def store(built_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    copy = tmp_path_factory.mktemp("poisoned") / "built.duckdb"
    shutil.copy(built_file, copy)
    return poisoned(Store(copy))


@pytest.fixture(scope="module")
def opened(launched: Chromium, store: Store) -> Iterator[Browser]:
    with dashboard(store.path) as address, browser(launched, address) as page:
        page.open("")
        yield page


def assert_unharmed(page: Page) -> None:
    assert page.evaluate("window.attacked") is None
    assert page.locator("img[src=x], [onerror]").count() == 0


@pytest.mark.parametrize("title", PAGES)
def test_the_dashboard(opened: Browser, title: str) -> None:
    opened.follow(title)
    assert_unharmed(opened.page)
    assert opened.faults == []


def test_queries_whose_answer_is_markup(opened: Browser) -> None:
    opened.follow("SQL")
    ask(opened, "SELECT x.text_a, r.labels FROM examples AS x JOIN runs AS r USING (run_id) LIMIT 5")
    opened.page.get_by_text("5 rows", exact=True).wait_for()
    assert_unharmed(opened.page)
    ask(opened, "SELECT \"<img src=x onerror='window.attacked=1'>\"")
    opened.page.get_by_text("onerror").first.wait_for()  # in the message, as text
    assert_unharmed(opened.page)


def test_the_report(launched: Chromium, store: Store, tmp_path: Path) -> None:
    path = write_report(store, tmp_path / "report.html")
    page = launched.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#chart-importance svg, #chart-heads svg")
    assert_unharmed(page)
    page.close()
