"""The dashboard in a real browser: every page, filters, a click on a head, the locked console."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fabricate import commit, new_store, register, rows
from helpers.opened import Browser, ask, browser, chromium, dashboard
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from attattr_batch.store.database.connection import Store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine"),
]

PAGES = ["Overview", "Heads", "Universality", "Pruning", "Examples", "Triggers", "Compare", "SQL"]

# Every other refusal is in tests/store/test_store_console.py and tests/hostile.
REFUSED = {
    "SELECT * FROM read_csv('/etc/passwd')": "disabled by configuration",
    "WITH x AS (COPY runs TO '/tmp/stolen.csv') SELECT 1": "got",
    "SELECT repeat('x', 2000000000) || repeat('y', 2000000000)": "memory",
}


@pytest.fixture(scope="module")
def launched() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def populated(
    launched: Chromium, built_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    copy = tmp_path_factory.mktemp("dashboard") / "built.duckdb"
    shutil.copy(built_file, copy)
    with dashboard(copy) as address, browser(launched, address) as opened:
        opened.open("")
        yield opened


@pytest.mark.parametrize("title", PAGES)
def test_every_page_opens_and_draws(populated: Browser, title: str) -> None:
    populated.follow(title)
    if title != "SQL":
        expect(populated.charts().first).to_be_visible()
    populated.shot(title.lower())
    assert populated.faults == []


def test_a_filter_changes_the_page_and_its_address(populated: Browser, built_file: Path) -> None:
    wrong = (
        "SELECT p.example_id, text_a FROM predictions AS p JOIN examples AS x USING (run_id, example_id)"
        " JOIN runs AS r USING (run_id) WHERE r.name = 'mrpc' AND p.gold <> p.predicted"
    )
    ((example, text),) = rows(Store(built_file), wrong)
    populated.follow("Examples")
    expect(populated.page.get_by_text("12 examples", exact=True)).to_be_visible()
    populated.choose("run", "mrpc")
    populated.choose("answer", "wrong")
    assert "run=mrpc" in populated.page.url and "answer=wrong" in populated.page.url
    address = populated.page.url.removeprefix(populated.address + "/")
    populated.follow("Overview")
    populated.open(address)
    expect(populated.page.get_by_text("1 examples", exact=True)).to_be_visible()
    listed = populated.page.get_by_test_id("stDataFrame").first.locator("td")
    expect(listed.first).to_have_text(str(example))
    expect(listed.nth(1)).to_have_text(text)


def test_a_click_on_a_head_shows_its_examples(populated: Browser) -> None:
    populated.follow("Heads")
    expect(populated.page.get_by_role("heading", name="Layer 0, head 0")).to_be_visible()
    chart = populated.charts().first
    box = chart.bounding_box()
    assert box is not None
    # Right and top of the map, below its title; the legend is wider than the map.
    chart.click(position={"x": box["width"] * 0.6, "y": box["height"] * 0.25})
    heading = populated.page.get_by_role("heading", name=re.compile(r"Layer [1-3], head [1-3]"))
    expect(heading).to_be_visible()
    populated.settle()
    assert re.search(r"layer=[1-3]", populated.page.url)
    populated.shot("heads-clicked")


def test_the_console_answers_and_cuts_huge_results(populated: Browser) -> None:
    populated.follow("SQL")
    ask(populated, "SELECT name, n_examples FROM runs ORDER BY run_id")
    expect(populated.page.get_by_text("2 rows", exact=True)).to_be_visible()
    with populated.page.expect_download() as download:
        populated.page.get_by_role("button", name="Download CSV").click()
    assert download.value.path().read_text() == '"name","n_examples"\n"sst2",12\n"mrpc",12\n'
    populated.shot("sql-answered")
    ask(populated, "SELECT range AS i FROM range(5000000)")
    expect(populated.page.get_by_text("Only the first 1000 rows are shown.")).to_be_visible()


@pytest.mark.parametrize("sql", REFUSED)
def test_the_console_refuses_attacks_and_lives_on(populated: Browser, sql: str) -> None:
    populated.follow("SQL")
    ask(populated, sql)
    expect(populated.page.get_by_text(re.compile(re.escape(REFUSED[sql]))).first).to_be_visible()
    assert not Path("/tmp/stolen.csv").exists()
    ask(populated, "SELECT 6 * 7 AS answer")
    expect(populated.page.get_by_text("1 rows", exact=True)).to_be_visible()


def test_an_empty_store_says_what_to_do_and_one_being_written_its_progress(
    launched: Chromium, tmp_path: Path
) -> None:
    store = new_store(tmp_path)
    with dashboard(store.path) as address, browser(launched, address) as opened:
        opened.open("")
        expect(opened.page.get_by_text("attattr run").first).to_be_visible()
        for title in PAGES[1:]:
            opened.follow(title)
        opened.shot("empty")
        _, pass_id = register(store, 8)
        opened.open("")
        expect(opened.page.get_by_text(re.compile("0 of 8"))).to_be_visible()
        commit(store, pass_id, range(4))
        expect(opened.page.get_by_text(re.compile("4 of 8"))).to_be_visible()
        opened.shot("being-written")
        for title in PAGES[1:]:
            opened.follow(title)
